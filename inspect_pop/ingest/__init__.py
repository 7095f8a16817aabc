"""Read what a machine hands over: one module per format, all behind one reader contract.

`find_exports` lists the boards of a batch and `open_export` opens one of them without reading its pixels.
`check_export` returns every fault of a board. `find_labels` lists the files of labels that people wrote about joints.
"""

from pathlib import Path

from inspect_pop.core.errors import InputFault
from inspect_pop.ingest.contract import (
    BoardExport,
    HeightMapSource,
    ImageSource,
    Reader,
    SliceSource,
    find_faults,
    find_reader,
    find_root,
)
from inspect_pop.ingest.discovery import find_exports, find_labels, find_passed_over

__all__ = [
    "BoardExport",
    "HeightMapSource",
    "ImageSource",
    "Reader",
    "SliceSource",
    "check_export",
    "export_digest",
    "find_exports",
    "find_labels",
    "find_passed_over",
    "find_root",
    "open_export",
]


def open_export(path: Path | str, root: Path | str | None = None) -> BoardExport:
    """Open the board at `path`: read and check everything but the pixels.

    Args:
        path: The board's folder.
        root: The folder that all of its files must lie in; by default two levels above the board's folder.

    Raises:
        InputFault: Something is wrong with the board.
        UsageFault: An added reader cannot be loaded.
    """
    path = Path(path)
    return find_reader(path).open(path, Path(root) if root is not None else find_root(path))


def export_digest(path: Path | str, root: Path | str | None = None) -> str:
    """Return the identity of an export: sha256 over its manifest, recipe and images' digests. Raises as `open_export`."""
    return open_export(path, root).digest


def check_export(path: Path | str, root: Path | str | None = None) -> list[InputFault]:
    """Return every fault of a board; empty for one that can be inspected. Reads all images, inspects nothing."""
    path = Path(path)
    return find_faults(path, Path(root) if root is not None else find_root(path))
