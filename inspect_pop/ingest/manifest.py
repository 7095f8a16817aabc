"""export.json, version 1: its fields as models, and every fault of one told at once.

The images are checked each by itself, so that one that is wrong does not hide what is wrong with another.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from inspect_pop.ingest.document import Problem, Strict, expected, show, validated
from inspect_pop.ingest.files import BOUNDS

__all__ = ["HeightEntry", "ImageEntry", "Manifest", "ParsedManifest", "SliceEntry", "Text", "parse_manifest"]

_JOINERS = "\u200c\u200d"  # part of words in Persian and the scripts of India, and of joined pictures; not printable to Python
_COORDINATE_UM = 1e6  # a metre: no board is larger


def _plain(text: str) -> str:
    if any(unicodedata.category(c) == "Cc" for c in text):
        raise expected("text without control characters")
    return text


def _printable(text: str) -> str:
    if not all(c.isprintable() or c in _JOINERS for c in text):
        raise expected("1 to 128 printable characters")
    return text


def _offset_time(text: str) -> str:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise expected("a time in ISO 8601 with an offset, such as 2026-11-22T08:27:51+01:00") from error
    if time.tzinfo is None:
        raise expected("a time with its offset, such as 2026-11-22T08:27:51+01:00")
    if not 1970 <= time.year <= 9998:  # beyond these it cannot be told in UTC everywhere
        raise expected("a time from 1970 on")
    return text


Text = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_plain)]
Note = Annotated[str, Field(max_length=256), AfterValidator(_plain)]  # an optional field that a machine left empty is no fault
Serial = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_printable)]
Time = Annotated[str, Field(max_length=64), AfterValidator(_offset_time)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")]
PathText = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_plain)]
Coordinate = Annotated[float, Field(ge=-_COORDINATE_UM, le=_COORDINATE_UM)]
Pixel = Annotated[float, Field(ge=0.1, le=1000.0)]  # finest inspection X-ray 0.25 um; below 0.1 it was given in mm


class Manifest(Strict):
    """All of export.json but its images, which are checked one by one."""

    schema_: Literal["pop-export/1"] = Field(alias="schema")
    serial: Serial
    panel: Note | None = None
    position: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    product: Text
    lot: Note | None = None
    work_order: Note | None = None
    line: Text
    station: Text
    operator: Note | None = None
    recipe: PathText
    inspected_at: Time
    images: Annotated[list[Any], Field(max_length=BOUNDS.export_images)]


class _Entry(Strict):
    refdes: Text
    file: PathText
    sha256: Digest | None = None
    pixel_um: Pixel
    origin_um: Annotated[list[Coordinate], Field(min_length=2, max_length=2)]


class SliceEntry(_Entry):
    """An image of kind `xray_slices`."""

    kind: Literal["xray_slices"]
    interface: Literal["lower", "upper"]
    polarity: Literal["solder_bright", "solder_dark"]
    method: Literal["laminography", "ct", "transmission"]
    z_um: list[Coordinate]

    @field_validator("z_um")
    @classmethod
    def _rising(cls, z_um: list[float], info: ValidationInfo) -> list[float]:
        if info.data.get("method") == "transmission":
            if len(z_um) != 1:
                raise expected("one value for a transmission picture")
        elif not 3 <= len(z_um) <= 9:
            raise expected("3 to 9 values, one a slice")
        if any(low >= high for low, high in pairwise(z_um)):
            raise expected("rising values")
        return z_um

    @property
    def key(self) -> tuple[str, str]:
        """What it shows: package and interface."""
        return self.refdes, self.interface


class HeightEntry(_Entry):
    """An image of kind `height_map`. A scale is needed for uint16 alone; which it is, only the file says."""

    kind: Literal["height_map"]
    stage: Literal["pre_stack", "post_reflow"]
    scale_um: Annotated[float, Field(gt=0, le=1000.0)] | None = None
    offset_um: Coordinate = 0.0
    no_data: Annotated[int, Field(ge=-(2**31), lt=2**32)] | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What it shows: package and stage."""
        return self.refdes, self.stage


ImageEntry = SliceEntry | HeightEntry
_KINDS: dict[str, type[SliceEntry] | type[HeightEntry]] = {"xray_slices": SliceEntry, "height_map": HeightEntry}


@dataclass(frozen=True)
class ParsedManifest:
    """What of an export.json can be used, and all that is wrong with it; `images` leaves out the entries that are wrong.

    `index` gives each image's place in the document's list.
    """

    manifest: Manifest | None
    images: tuple[ImageEntry, ...]
    index: tuple[int, ...]
    problems: tuple[Problem, ...]


def parse_manifest(document: dict[str, Any]) -> ParsedManifest:
    """The document of an export.json, checked field by field."""
    manifest, problems = validated(Manifest, document)
    listed = document.get("images")
    entries: list[ImageEntry] = []
    index: list[int] = []
    for i, value in enumerate(listed[: BOUNDS.export_images] if isinstance(listed, list) else ()):
        entry, wrong = _entry(value, f"images[{i}]")
        problems += wrong
        if entry is not None:
            entries.append(entry)
            index.append(i)
    problems += _doubled(entries, index)
    return ParsedManifest(manifest, tuple(entries), tuple(index), tuple(problems))


def _entry(value: object, at: str) -> tuple[ImageEntry | None, list[Problem]]:
    if not isinstance(value, dict):
        return None, [Problem(at, "an object", show(value))]
    kind = value.get("kind")
    model = _KINDS.get(kind) if isinstance(kind, str) else None
    if model is None:
        return None, [Problem(f"{at}.kind", "'xray_slices' or 'height_map'", show(kind) if "kind" in value else "nothing")]
    return validated(model, value, at)


def _doubled(entries: Sequence[ImageEntry], index: Sequence[int]) -> list[Problem]:
    """Two images of the same thing contradict one another, and so do two things shown by the same picture."""
    problems: list[Problem] = []
    by_key: dict[tuple[str, str], int] = {}
    by_file: dict[str, ImageEntry] = {}
    for i, entry in zip(index, entries, strict=True):
        first = by_key.setdefault(entry.key, i)
        if first != i:
            problems.append(Problem(f"images[{i}]", f"one image of {'/'.join(entry.key)}", f"another one, images[{first}]"))
        other = by_file.setdefault(entry.file, entry)
        if first == i and other is not entry and not _may_share(other, entry):
            found = f"the file of {'/'.join(other.key)}"
            problems.append(
                Problem(f"images[{i}].file", f"a file that shows {'/'.join(entry.key)}", f"{show(entry.file)}, {found}")
            )
    return problems


def _may_share(a: ImageEntry, b: ImageEntry) -> bool:
    """A transmission picture shows both interfaces; slices do where they are at the same heights. A map has one stage."""
    if not isinstance(a, SliceEntry) or not isinstance(b, SliceEntry):
        return False
    return (a.method == b.method == "transmission") or a.z_um == b.z_um
