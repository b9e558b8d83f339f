"""Whether a rendering of the chart says what the plain manifests say.

    compare.py RENDERED PLAIN...

Names each field that differs; exit code 1 when one does. Passed over is only what a chart adds by
its nature: labels that name the chart, and the checksum that restarts pods for new settings.
"""

import sys

import yaml

OF_A_CHART = ("helm.sh/chart", "app.kubernetes.io/managed-by", "app.kubernetes.io/version")
CHECKSUM = "checksum/settings"


def without_chart(value):
    """The value without labels of the chart, and without annotations left empty by that."""
    if isinstance(value, list):
        return [without_chart(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {key: without_chart(item) for key, item in value.items()}
    labels, annotations = kept.get("labels"), kept.get("annotations")
    if isinstance(labels, dict):
        kept["labels"] = {key: item for key, item in labels.items() if key not in OF_A_CHART}
    if isinstance(annotations, dict):
        annotations.pop(CHECKSUM, None)
        if not annotations:
            del kept["annotations"]
    return kept


def read(paths):
    """All resources of the files, by kind and name."""
    found = {}
    for path in paths:
        with open(path, encoding="utf-8") as file:
            for resource in filter(None, yaml.safe_load_all(file)):
                name = f"{resource['kind']}/{resource['metadata']['name']}"
                if name in found:
                    sys.exit(f"{path}: {name} stands twice")
                found[name] = without_chart(resource)
    return found


def differences(where, one, other):
    """Yields each place where two values differ, with both."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            yield from differences(f"{where}.{key}", one.get(key), other.get(key))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, (left, right) in enumerate(zip(one, other)):
            yield from differences(f"{where}[{index}]", left, right)
    elif one != other:
        yield f"{where.replace(' .', ' ', 1)}: {one!r} in the chart, {other!r} in the manifests"


def main():
    rendered, plain = read(sys.argv[1:2]), read(sys.argv[2:])
    found = []
    for name in sorted(rendered.keys() | plain.keys()):
        found += differences(f"{name} ", rendered.get(name), plain.get(name))
    print("\n".join(found) or f"{len(plain)} resources, no difference")
    sys.exit(1 if found else 0)


main()
