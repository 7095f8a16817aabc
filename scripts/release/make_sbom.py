#!/usr/bin/env python3
"""Write a software bill of materials (CycloneDX 1.6, JSON) of an installation: run it with the installation's own Python.

    /opt/inspect-pop/bin/python scripts/release/make_sbom.py --out sbom.cdx.json requirements-station.txt

Each package of the requirement files is a component with its version, package URL, licence, and the sha256 of every file that
pip accepts for it. A package that is not installed, or in another version, is an error: the bill would be of something else.
"""

import argparse
import json
import re
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>[^\s;\\]+)(?P<rest>(?:.*\\\n)*.*)", re.MULTILINE)
MARKER = re.compile(r"^\s*;\s*(?P<marker>[^\\]+)")


def normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def read_pins(path: Path) -> dict[str, tuple[str, list[str]]]:
    """Return version and hashes of each package of a requirements file that this machine installs."""
    from packaging.markers import Marker

    found = {}
    for block in BLOCK.finditer(path.read_text(encoding="utf-8")):
        marker = MARKER.match(block["rest"])
        if marker is None or Marker(marker["marker"].strip()).evaluate():
            found[normalize(block["name"])] = block["version"], re.findall(r"--hash=sha256:([0-9a-f]{64})", block["rest"])
    return found


def find_licence(package: Distribution) -> str:
    """Return the licence that a package declares: its SPDX expression, or its classifier or field of before."""
    about = package.metadata
    classified = [c.rpartition(" :: ")[2] for c in about.get_all("Classifier") or () if c.startswith("License :: ")]
    field = (about.get("License") or "").strip()
    return about.get("License-Expression") or next(iter(classified), "") or (field if "\n" not in field else "")


def describe_licence(package: Distribution) -> list[dict[str, Any]]:
    name = find_licence(package)
    if not name:
        return []
    if package.metadata.get("License-Expression"):
        return [{"expression": name}]
    return [{"license": {"name": name}}]


def make_component(name: str, version: str, hashes: list[str]) -> dict[str, Any]:
    try:
        package = distribution(name)
    except PackageNotFoundError:
        raise SystemExit(f"{name}: expected version {version} to be installed, found none") from None
    if package.version.partition("+")[0] != version:
        raise SystemExit(f"{name}: expected version {version} to be installed, found {package.version}")
    purl = f"pkg:pypi/{name}@{version}"
    component: dict[str, Any] = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    if licences := describe_licence(package):
        component["licenses"] = licences
    component["hashes"] = [{"alg": "SHA-256", "content": h} for h in hashes]
    return component


def find_dependencies(name: str, known: dict[str, str]) -> list[str]:
    """Return the references of what a package requires, without extras, among the components."""
    from packaging.requirements import Requirement

    required = [Requirement(text) for text in distribution(name).requires or ()]
    names = {normalize(r.name) for r in required if r.marker is None or r.marker.evaluate({"extra": ""})}
    return sorted(known[n] for n in names if n in known)


def make_bill(pins: dict[str, tuple[str, list[str]]], version: str) -> dict[str, Any]:
    """Return the bill. It holds no time and no random number, so that the same installation has the same bill."""
    components = [make_component(name, *pins[name]) for name in sorted(pins)]
    product = f"pkg:pypi/inspect-pop@{version}"
    references = {c["name"]: c["bom-ref"] for c in components}
    dependencies = [{"ref": product, "dependsOn": sorted(references.values())}]
    dependencies += [{"ref": ref, "dependsOn": find_dependencies(name, references)} for name, ref in references.items()]
    about = {"type": "application", "bom-ref": product, "name": "inspect_pop", "version": version, "purl": product}
    about |= {"licenses": [{"license": {"id": "Apache-2.0"}}]}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": about},
        "components": components,
        "dependencies": dependencies,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("requirements", nargs="*", type=Path, default=[ROOT / "requirements-line.txt"])
    parser.add_argument("--out", type=Path, help="default: standard output")
    arguments = parser.parse_args()
    pins = {name: pin for path in arguments.requirements for name, pin in read_pins(path).items()}
    version = re.search(r'^__version__ = "(.+)"', (ROOT / "inspect_pop/__init__.py").read_text(encoding="utf-8"), re.MULTILINE)
    if version is None:
        raise SystemExit("inspect_pop/__init__.py: expected __version__, found none")
    text = json.dumps(make_bill(pins, version[1]), indent=1, ensure_ascii=False) + "\n"
    if arguments.out is None:
        sys.stdout.write(text)
    else:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
