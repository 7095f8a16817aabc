"""From a machine's files to a `BoardExport`: one module per format behind one reader contract.

`find_exports` gives the boards of a batch, `open_export` one of them, its pixels not read yet; `check_export` tells
everything that is wrong with one; `board_labels` and `read_labels` what people decided about joints.
"""

from pathlib import Path

from inspect_pop.core.errors import InputFault
from inspect_pop.ingest.contract import BoardExport, ImageSource, Reader, default_root, reader_for
from inspect_pop.ingest.discovery import board_labels, find_exports

__all__ = [
    "BoardExport",
    "ImageSource",
    "Reader",
    "board_labels",
    "check_export",
    "default_root",
    "export_digest",
    "find_exports",
    "open_export",
]


def open_export(path: Path | str, root: Path | str | None = None) -> BoardExport:
    """The board at `path`, everything but its pixels read and checked.

    `root` is the folder that all of its files must lie in; by default the one two levels above the board's folder.
    Raises `InputFault` for what is wrong with the board, `UsageFault` where an added reader cannot be loaded.
    """
    path = Path(path)
    return reader_for(path).open(path, Path(root) if root is not None else default_root(path))


def export_digest(path: Path | str, root: Path | str | None = None) -> str:
    """The identity of an export: sha256 over its manifest, its recipe and the digests of its images. Raises as `open_export`."""
    return open_export(path, root).digest


def check_export(path: Path | str, root: Path | str | None = None) -> list[InputFault]:
    """Every fault of a board at once; empty for one that can be inspected. Reads all images, inspects nothing."""
    from inspect_pop.ingest.check import faults_of

    path = Path(path)
    return faults_of(path, Path(root) if root is not None else default_root(path))
