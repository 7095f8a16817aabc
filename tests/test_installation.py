"""What is installed is known: the bill of materials, and every file with its hash."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from base64 import urlsafe_b64encode
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.test_documentation import pinned
from tests.tools import SCRIPTS, load_script

ROOT = SCRIPTS.parent


def test_the_bill_of_materials_names_every_package_of_the_line_with_its_hashes() -> None:
    sbom = load_script("release/make_sbom.py")
    pins = sbom.read_pins(ROOT / "requirements-line.txt")
    bill = sbom.make_bill(pins, "1")
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.6", 1)
    components = {c["name"]: c for c in bill["components"]}
    wanted = {sbom.normalize(name): number for name, number in pinned(ROOT / "requirements-line.txt")}
    assert wanted.items() >= {name: c["version"] for name, c in components.items()}.items()
    assert {"numpy", "onnxruntime", "setuptools", "sqlalchemy"} <= components.keys()
    assert [name for name, c in components.items() if not c["hashes"] or not c["licenses"]] == []
    assert {h["alg"] for c in components.values() for h in c["hashes"]} == {"SHA-256"}
    references = {c["bom-ref"] for c in components.values()} | {bill["metadata"]["component"]["bom-ref"]}
    assert {d["ref"] for d in bill["dependencies"]} == references
    assert {r for d in bill["dependencies"] for r in d["dependsOn"]} <= references
    of_sqlalchemy = next(d for d in bill["dependencies"] if "/sqlalchemy@" in d["ref"])
    assert any("/typing-extensions@" in ref for ref in of_sqlalchemy["dependsOn"])
    json.dumps(bill)


def test_a_bill_of_what_is_not_installed_is_refused() -> None:
    sbom = load_script("release/make_sbom.py")
    for pin in ({"no-such-package": ("1", [])}, {"numpy": ("0.1", [])}):
        with pytest.raises(SystemExit, match="to be installed, found"):
            sbom.make_bill(pin, "1")


def make_wheel(folder: Path) -> Path:
    """A package of one module, as a wheel."""
    wheel = folder / "some_package-1-py3-none-any.whl"
    about = "some_package-1.dist-info"
    files = {
        "some_package.py": "x = 1\n",
        "some_package-1.data/scripts/some-command": "#!python\n",
        "some_package-1.data/data/share/models/model.onnx": "weights",
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: some-package\nVersion: 1\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {n: urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=") for n, text in files.items()}
    record = "".join(f"{name},sha256={digest},\n" for name, digest in digests.items())
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in (files | {f"{about}/RECORD": f"{record}{about}/RECORD,,\n"}).items():
            archive.writestr(name, text)
    return wheel


def test_an_installed_file_that_was_changed_is_gone_or_is_new_is_named(tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", symlinks=os.name != "nt")
    python = next(p for p in (tmp_path / "venv/bin/python", tmp_path / "venv/Scripts/python.exe") if p.exists())
    install = [sys.executable, "-m", "pip", f"--python={python}", "install", "--quiet", "--no-index", str(make_wheel(tmp_path))]
    subprocess.run(install, check=True)

    def check() -> tuple[int, str]:
        script = ROOT / "scripts/release/check_installed.py"
        done = subprocess.run([python, str(script)], capture_output=True, text=True, check=False)
        assert done.stderr == ""
        return done.returncode, done.stdout

    assert check()[0] == 0
    listed = subprocess.run([python, str(ROOT / "scripts/release/check_installed.py"), "--list"], capture_output=True, text=True)
    assert {"some_package.py", "some-command", "model.onnx"} <= {line.rpartition("/")[2] for line in listed.stdout.splitlines()}
    (module,) = tmp_path.glob("venv/lib/*/site-packages/some_package.py")
    module.write_text("x = 2\n", encoding="utf-8")
    assert check()[1].startswith(f"{module}: expected the content that some-package was installed with")
    module.unlink()
    module.with_name("other.pth").touch()
    status, said = check()
    assert status == 1
    assert f"{module}: expected a file of some-package, found none" in said
    assert "other.pth: expected a file of a package, found one of none" in said


def test_the_package_builds_without_an_index_by_the_setuptools_of_its_environment(tmp_path: Path) -> None:
    """`pip install .` builds in an environment of its own; in a plant nothing can be fetched for it."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--ignore-installed", "--no-index"]
    done = subprocess.run(
        [*command, "--isolated", str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PIP_FIND_LINKS": ""},
    )
    assert done.returncode == 0, done.stderr
    assert f"inspect_pop-{version('inspect_pop')}" in done.stdout.replace("-pop", "_pop")


def test_nothing_is_sent_to_the_maker_of_a_library(tmp_path: Path) -> None:
    """onnxruntime would leave an identifier of the machine in the user's cache, and send figures of use to its maker."""
    code = (
        "import inspect_pop.classify.session, onnxruntime, pathlib, sys;"
        "onnxruntime.InferenceSession(pathlib.Path(sys.argv[1]).read_bytes(), providers=['CPUExecutionProvider'])"
    )
    network = min((ROOT / "models").glob("*/model.onnx"))
    environment = {k: v for k, v in os.environ.items() if k not in ("XDG_CACHE_HOME", "ORT_DISABLE_TELEMETRY")}
    command = [sys.executable, "-c", code, str(network)]
    subprocess.run(command, check=True, cwd=ROOT, env=environment | {"HOME": str(tmp_path)})
    assert list(tmp_path.rglob("*")) == []


def test_a_build_takes_no_module_that_an_earlier_one_left(tmp_path: Path) -> None:
    """setuptools copies into `build/` and packs what it finds there."""
    source = tmp_path / "source"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    for name in tracked:
        if name.startswith(("inspect_pop/", "scripts/release/", "pyproject", "README", "LICENSE", "models/", "training/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    left = source / "build" / "lib" / "inspect_pop" / "zz_old.py"
    left.parent.mkdir(parents=True)
    left.write_text("x = 1\n")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", str(source)]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run([*command, "--wheel-dir", str(tmp_path)], check=True, cwd=tmp_path, env=environment)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "inspect_pop/api.py" in names and "inspect_pop/zz_old.py" not in names
