"""What the Python clients' scripts share: how a case is told, and what it is done with."""

GROUP = "interop"
# Longer than a long poll of the clients before 2.0.
SOON = 45
UNICODE = "配置 ✓ 😀 \n\t&=+%#\"'<>"

failed = 0


def told(name, error=None):
    """Prints the line of a case."""
    global failed
    if error is None:
        print("ok  ", name, flush=True)
    else:
        failed += 1
        print("FAIL", name, repr(error)[:300], flush=True)


def same(expected, found):
    assert expected == found, f"expected {expected!r:.80}, found {found!r:.80}"


def end():
    """Prints whether all passed, and gives the exit code."""
    print("all passed" if failed == 0 else f"{failed} failed", flush=True)
    return 1 if failed else 0
