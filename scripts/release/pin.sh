#!/usr/bin/env bash
# Write constraints.txt from the packages in .venv, then requirements-*.txt with hashes.
# Needs uv. Run it after a deliberate change of a dependency; tests check that the files agree with pyproject.toml.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../environment.sh"
cd "$root"
{
    echo "# Exact versions that were installed and tested together. The index they come from is set on each machine."
    "$venv/bin/python" -m pip freeze --all --exclude-editable | sed -E 's/\+cpu$//' | grep -vE '^(pip|uv)=='
} >constraints.txt
# write_hashes FILE PURPOSE [OPTION…]: the requirements of the package and of these extras, each file with its hash.
write_hashes() {
    local file=$1 purpose=$2
    shift 2
    {
        echo "# What $purpose installs, each file with its hash. Made by scripts/release/pin.sh from pyproject.toml and constraints.txt."
        echo "setuptools>=77" | "$venv/bin/uv" pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --no-annotate \
            --python-version 3.11 -c constraints.txt "$@" pyproject.toml -
    } >"$file"
}
write_hashes requirements-line.txt "an inspection line"
write_hashes requirements-station.txt "a line's station (the service, the watched folder)" --extra station
# write_extra EXTRA PURPOSE BASE: what an extra needs that requirements-BASE.txt does not hold.
write_extra() {
    {
        echo "# What $2 installs, each file with its hash. Made by scripts/release/pin.sh from pyproject.toml and constraints.txt."
        "$venv/bin/python" -c "import sys, tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies'][sys.argv[1]], sep='\n')" "$1" |
            "$venv/bin/uv" pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --no-annotate \
                --python-version 3.11 -c constraints.txt - |
            "$venv/bin/python" -c "import re, sys; held = set(re.findall(r'^[\w.-]+(?===)', open(sys.argv[1]).read(), re.M)); print(*(b for b in re.split(r'(?m)^(?=\S)', sys.stdin.read()) if b and b.split('==')[0] not in held), sep='', end='')" "requirements-$3.txt"
    } >"requirements-$1.txt"
}
write_extra postgresql "the extra postgresql, after requirements-station.txt," station
write_extra object-store "the extra object-store, after requirements-station.txt," station
write_extra cfx "the extra cfx, after requirements-build.txt," station
write_extra formats "the extra formats, after requirements-line.txt," line
write_extra recipes "the extra recipes, after requirements-line.txt," line
{
    echo "# What building a package from source installs, each file with its hash. Made by scripts/release/pin.sh from pyproject.toml and constraints.txt."
    printf 'cffi\nsetuptools>=77\n' | "$venv/bin/uv" pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --no-annotate \
        --python-version 3.11 -c constraints.txt -
} >requirements-build.txt
