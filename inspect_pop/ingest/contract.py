"""The reader contract: could this be yours, what is inside, give it to me.

A reader is one module with a `READER` object; third parties add theirs through the entry point group
`inspect_pop.readers`. Whatever the format, what comes out is a `BoardExport`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from inspect_pop.geometry import HeightMap, SliceStack
from inspect_pop.recipe import Recipe

__all__ = ["BoardExport", "ImageSource", "Reader"]


@dataclass(frozen=True)
class ImageSource:
    """One image of an export, not read yet.

    `kind` is `xray_slices` or `height_map`; `interface` (slices) or `stage` (maps) says of what. `read` opens,
    bounds, checks and decodes the file; it raises `FileFault`, `PathFault` or `ImageFault`.
    """

    kind: str
    refdes: str
    interface: str | None
    stage: str | None
    path: Path
    read: Callable[[], SliceStack | HeightMap]

    @property
    def name(self) -> str:
        """Short name in records and pages, such as `U1/lower` or `U1/post_reflow`."""
        return f"{self.refdes}/{self.interface or self.stage}"


@dataclass(frozen=True)
class BoardExport:
    """One board as a machine handed it over. Text is kept exactly; `inspected_at` is ISO 8601 with an offset.

    `digest` is the sha256 over the manifest and the digests of every file it names: the identity of the export.
    """

    path: Path
    serial: str
    panel: str | None
    position: int | None
    product: str
    lot: str | None
    work_order: str | None
    line: str
    station: str
    operator: str | None
    inspected_at: str
    recipe: Recipe
    images: tuple[ImageSource, ...]
    digest: str

    @property
    def machine(self) -> str:
        """Which machine took it: its line and station."""
        return f"{self.line}/{self.station}"


class Reader(Protocol):
    """What a format's module offers."""

    name: str

    def could_be(self, path: Path) -> bool:
        """Whether this folder or file may be of this format; cheap, and never raises for foreign content."""
        ...

    def open(self, path: Path, root: Path) -> BoardExport:
        """Read and check everything but the pixels; files must lie inside `root`. Raises `InputFault`."""
        ...
