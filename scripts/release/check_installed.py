#!/usr/bin/env python3
"""Compare every file of an installation with the hash that it was installed with: run it with the installation's own Python.

    /opt/inspect-pop/bin/python scripts/release/check_installed.py   # status 1 if a file was changed, is gone or new
    /opt/inspect-pop/bin/python scripts/release/check_installed.py --list >installed.sha256

The hashes are those of the packages' RECORD files, which pip writes. Whoever may write the packages may write these, too: keep
the list (`--list`, for `sha256sum --check`) on another machine, and compare with that one.
"""

import argparse
import base64
import hashlib
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

PLACES = sorted({Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")})
BYTE_CODE = (".pyc", ".pyo")  # made at the first import
NO_HASH = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")  # what the installer adds


def compute_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_package(package: Distribution, known: set[Path]) -> Iterator[str]:
    """Yield what is wrong with one package's files, and add them to those that are known."""
    for file in package.files or ():
        path = Path(str(package.locate_file(file))).resolve()
        known.add(path)
        if path.suffix in BYTE_CODE:
            continue
        if not path.is_file():
            yield f"{path}: expected a file of {package.name}, found none"
        elif file.hash is None:
            if path.name not in NO_HASH:
                yield f"{path}: expected a hash in the RECORD of {package.name}, found none"
        elif file.hash.mode != "sha256":
            yield f"{path}: expected a sha256 in the RECORD of {package.name}, found {file.hash.mode}"
        elif base64.urlsafe_b64decode(file.hash.value + "=").hex() != compute_digest(path):
            yield f"{path}: expected the content that {package.name} was installed with, found another"


def find_files() -> Iterator[Path]:
    for place in PLACES:
        yield from (path for path in sorted(place.rglob("*")) if path.is_file() and path.suffix not in BYTE_CODE)


def find_known(packages: Iterable[Distribution]) -> set[Path]:
    """Return the files that packages brought, wherever they lie: models below share/ and commands in bin/, too."""
    files = (Path(str(package.locate_file(file))).resolve() for package in packages for file in package.files or ())
    return {path for path in files if path.is_file() and path.suffix not in BYTE_CODE}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="print the sha256 of every installed file instead")
    arguments = parser.parse_args()
    packages = [p for p in distributions() if Path(str(p.locate_file(""))).resolve() in PLACES]
    if arguments.list:
        for path in sorted({*find_files(), *find_known(packages)}):
            print(f"{compute_digest(path)}  {path}")
        return
    known: set[Path] = set()
    faults = [fault for package in packages for fault in check_package(package, known)]
    faults += [f"{path}: expected a file of a package, found one of none" for path in find_files() if path.resolve() not in known]
    print("\n".join(faults), end="\n" if faults else "")
    print(f"{len(packages)} packages, {len(known)} files, {len(faults)} faults")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
