"""Nothing outside the roots is ever read, neither by name nor by link."""

import os
from collections.abc import Sequence
from pathlib import Path

from inspect_pop.errors import FileFault, PathFault

__all__ = ["within"]

LONGEST = 4096  # PATH_MAX on Linux


def within(roots: Sequence[Path], asked: str) -> tuple[Path, Path]:
    """(path, root): the real path that `asked` means, and the root that holds it.

    A relative path is looked for below each root. Raises `PathFault` where the path, or what a link in it points to, lies
    outside every root, whether or not something is there, and `FileFault` where nothing is there inside.
    """
    if not asked or len(asked) > LONGEST or "\0" in asked:
        raise PathFault("path", expected="the path of a board's folder", found=repr(asked[:80]))
    if ".." in Path(asked).parts:
        raise PathFault(asked, expected="a path without '..'", remedy="Name the folder itself.")
    real = [Path(os.path.realpath(root)) for root in roots]
    means = [Path(os.path.realpath(root / asked)) for root in real]
    inside = [(path, root) for path, root in zip(means, real, strict=True) if path.is_relative_to(root)]
    for path, root in inside:
        if _is_there(path):
            return path, root
    if inside:
        raise FileFault(asked, expected="the folder of a board", found="nothing that can be read")
    raise PathFault(
        asked, expected="a path within the service's roots", remedy="Export below a root, or start the service with --root."
    )


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False  # too long a name, or a folder above it that may not be entered
