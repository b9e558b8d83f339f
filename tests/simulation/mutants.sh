#!/bin/sh
# Shows that the simulation has teeth: breaks a copy of Quorate with each patch of mutants/ and runs
# seeds until one catches it. Prints a row for each: the patch, the seed, the broken promise.
# Usage: tests/simulation/mutants.sh [PATCH...]; QUORATE_SIM_SEEDS=FROM..TO as for the tests.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
seeds=${QUORATE_SIM_SEEDS:-1..101}
# A directory of its own: cargo takes the copy's crates for those of the repository.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target}/mutants"
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
(cd "$root" && git ls-files -z | tar --null -cf - -T -) | tar -xf - -C "$copy"
cd "$copy"
git init -q
git add -A
git -c user.name=mutants -c user.email=mutants@localhost commit -qm copy
escaped=0
[ $# -gt 0 ] || set -- "$root"/tests/simulation/mutants/*.patch
for patch in "$@"; do
    name=$(basename "$patch" .patch)
    if ! git apply "$patch" 2>build.txt; then
        echo "| $name | does not apply |"
        cat build.txt
        escaped=1
    elif ! cargo build -q -p quorate-server --test simulation 2>build.txt; then
        echo "| $name | does not build |"
        cat build.txt
        escaped=1
    elif QUORATE_SIM_SEEDS=$seeds cargo test -q -p quorate-server --test simulation \
        promises -- --nocapture >run.txt 2>&1; then
        echo "| $name | ESCAPED under $seeds |"
        escaped=1
    else
        caught=$(grep -E '^seed [0-9]+: ' run.txt | sed 's/^seed //' | sort -n | head -n 1)
        echo "| $name | ${caught%%:*} |${caught#*:} |" | sed "s|/tmp/[^ ]*/||g" | cut -c 1-220
    fi
    git checkout -q .
    git clean -qfd -e target
done
exit $escaped
