"""Build the package with the setuptools of the environment that it is installed into, also where no index can be reached.

`pip install .` builds in an empty environment, for which it fetches what builds the package. What a line installs, each file with
its hash, holds setuptools already (requirements-line.txt): this backend takes it from there. Where there is none, or an older
one, it asks pip to fetch one, as usual (PEP 517, get_requires_for_build_wheel).
"""

import shutil
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, version

OLDEST = 77  # the first that knows `license = "Apache-2.0"` (PEP 639)


def _find_requirements() -> list[str]:
    places = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    sys.path += sorted(places - set(sys.path))
    try:
        is_new = int(version("setuptools").partition(".")[0]) >= OLDEST
    except (PackageNotFoundError, ValueError):
        is_new = False
    return [] if is_new else [f"setuptools>={OLDEST}"]


_missing = _find_requirements()
if not _missing:
    from setuptools import build_meta as _backend
    from setuptools.build_meta import *  # noqa: F403 (the hooks of PEP 517 and PEP 660)


def build_wheel(directory: str, settings: dict[str, str] | None = None, metadata: str | None = None) -> str:
    """Build from the sources as they are: setuptools would also take modules that an earlier build left in `build/`."""
    shutil.rmtree("build", ignore_errors=True)
    return _backend.build_wheel(directory, settings, metadata)


def get_requires_for_build_wheel(settings: dict[str, str] | None = None) -> list[str]:
    return _missing or _backend.get_requires_for_build_wheel(settings)


def get_requires_for_build_editable(settings: dict[str, str] | None = None) -> list[str]:
    return _missing or _backend.get_requires_for_build_editable(settings)


def get_requires_for_build_sdist(settings: dict[str, str] | None = None) -> list[str]:
    return _missing or _backend.get_requires_for_build_sdist(settings)
