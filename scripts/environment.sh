# Sourced by scripts/run and scripts/test: one virtual environment in the checkout, installed once per state of the pins.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv

say() { printf '%s\n' "$*" >&2; }

# Print the first Python on the path that the package supports.
find_python() {
    local name
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$name" >/dev/null && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' </dev/null; then
            command -v "$name"
            return
        fi
    done
    say "Python 3.11 or newer is needed and was not found. On Debian: apt-get install python3 python3-venv"
    return 1
}

make_venv() {
    [ -x "$venv/bin/python" ] && return
    local python
    python=$(find_python)
    say "making $venv with $python"
    "$python" -m venv "$venv" </dev/null || {
        say "The virtual environment could not be made. On Debian: apt-get install python3-venv"
        return 1
    }
}

pip() { "$venv/bin/python" -m pip --disable-pip-version-check --no-input "$@" </dev/null >&2; }

# Print a digest of everything that decides what is installed. When it changes, the next call installs again.
pins_digest() {
    cat "$root/pyproject.toml" "$root/constraints.txt" "$root/requirements-line.txt" "$root/scripts/environment.sh" | sha256sum | cut -d' ' -f1
}

# Install what the line needs, each file checked against its hash, then the package itself.
install_line() {
    pip install --quiet --require-hashes -r "$root/requirements-line.txt" || return
    pip install --quiet --no-deps --no-build-isolation -e "$root"
}

# Install torch first: its CPU build, where the machine offers one, must be there before anything requires torch.
install_test() {
    install_line || return
    pip install --quiet -c "$root/constraints.txt" "torch==2.13.0" || return
    pip install --quiet -c "$root/constraints.txt" --no-deps "torchvision==0.28.0" || return
    pip install --quiet -c "$root/constraints.txt" --no-build-isolation -e "$root[training,station,postgresql,object-store,cluster,dev]" || return
    if command -v gcc >/dev/null; then
        pip install --quiet -c "$root/constraints.txt" -e "$root[cfx]" ||
            say "the CFX client could not be built; its tests will be skipped"
    fi
}

# is_installed line|test: whether the environment holds at least that much. What the tests need includes what the line needs.
is_installed() {
    local kind digest
    [ -x "$venv/bin/inspect-pop" ] || return
    digest=$(pins_digest)
    for kind in "$1" test; do
        [ -f "$venv/.installed-$kind" ] && [ "$(cat "$venv/.installed-$kind")" = "$digest" ] && return
    done
    return 1
}

# prepare line|test: install what is missing. Quick when nothing changed.
prepare() {
    local kind=$1
    is_installed "$kind" && return
    make_venv || return
    say "installing what the $kind needs (once; minutes)"
    "install_$kind" || return
    pins_digest >"$venv/.installed-$kind"
}
