"""Read what a machine hands over: one module per format, all behind one reader contract.

`find_exports` lists the boards of a batch and `open_export` opens one of them without reading its pixels.
`check_export` returns every fault of a board. `find_labels` lists the files of labels that people wrote about joints.
"""

import hashlib
import json
from pathlib import Path

from inspect_pop.core.errors import InputFault
from inspect_pop.ingest.contract import (
    MANIFEST,
    BoardExport,
    BoardPlace,
    HeightMapSource,
    ImageSource,
    Reader,
    SliceSource,
    Source,
    find_exports,
    find_faults,
    find_labels,
    find_passed_over,
    find_reader,
    find_root,
)
from inspect_pop.ingest.files import BOUNDS, read_bytes, resolve_inside

__all__ = [
    "BoardExport",
    "BoardPlace",
    "HeightMapSource",
    "ImageSource",
    "Reader",
    "SliceSource",
    "Source",
    "check_export",
    "export_digest",
    "find_exports",
    "find_labels",
    "find_passed_over",
    "find_root",
    "identify_board",
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


def identify_board(path: Path) -> tuple[str | None, str | None]:
    """Return the serial that a board's manifest gives, and the manifest's sha256, of a board that may be faulty.

    Each is None where it cannot be read. Nothing outside the board's folder is read.
    """
    try:
        content = read_bytes(resolve_inside(MANIFEST, path, path, str(path)), BOUNDS.manifest_bytes)
    except (InputFault, OSError, ValueError):
        return None, None
    digest = hashlib.sha256(content).hexdigest()
    try:
        serial = json.loads(content)["serial"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None, digest
    return (serial.strip()[:128] or None if isinstance(serial, str) else None), digest
