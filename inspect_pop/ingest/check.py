"""Everything that is wrong with an export, at once, inspecting nothing."""

from pathlib import Path
from typing import Protocol, runtime_checkable

from inspect_pop.core.errors import InputFault
from inspect_pop.ingest.contract import Reader, reader_for

__all__ = ["ThoroughReader", "faults_of"]


@runtime_checkable
class ThoroughReader(Protocol):
    """A reader that goes on after a first fault; any other is asked to open the board and to read its images."""

    def faults(self, path: Path, root: Path) -> list[InputFault]:
        """Everything that is wrong with a board, every image read."""
        ...


def faults_of(path: Path, root: Path) -> list[InputFault]:
    """Every fault of a board: its manifest, recipe and tables, and each image opened, compared with its checksum, decoded."""
    try:
        reader = reader_for(path)
    except InputFault as fault:
        return [fault]
    return reader.faults(path, root) if isinstance(reader, ThoroughReader) else _one_by_one(reader, path, root)


def _one_by_one(reader: Reader, path: Path, root: Path) -> list[InputFault]:
    try:
        images = reader.open(path, root).images
    except InputFault as fault:
        return [fault]
    faults: list[InputFault] = []
    for image in images:
        try:
            image.read()
        except InputFault as fault:
            faults.append(fault)
    return faults
