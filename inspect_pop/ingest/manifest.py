"""The fields of `export.json`, version 1, and the check that returns every fault of one at once.

Each image is checked by itself, so that a faulty one does not hide the faults of another.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainValidator, ValidationInfo, field_validator

from inspect_pop.ingest.files import BOUNDS, FieldFault, StrictModel, expectation, format_value, validate

__all__ = ["MOST_SLICES", "HeightEntry", "ImageEntry", "Manifest", "ParsedManifest", "SliceEntry", "Text", "parse_manifest"]

_JOINERS = "\u200c\u200d"  # in words of Persian and Indic scripts and in joined emoji; Python calls them not printable
_COORDINATE_UM = 1e6  # a metre: no board is larger
_PIXEL_UM = (0.1, 1000.0)  # the finest inspection X-ray has 0.25 um; below 0.1 the value is in mm
_STRETCH = 10.0  # of one side of a pixel over the other; line profilers have 1 to 4
MOST_SLICES = 64


def _plain(text: str) -> str:
    if any(unicodedata.category(c) == "Cc" for c in text):
        raise expectation("text without control characters")
    return text


def _printable(text: str) -> str:
    if not all(c.isprintable() or c in _JOINERS for c in text):
        raise expectation("1 to 128 printable characters")
    return text


def _offset_time(text: str) -> str:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise expectation("a time in ISO 8601 with an offset, such as 2026-11-22T08:27:51+01:00") from error
    if time.tzinfo is None:
        raise expectation("a time with its offset, such as 2026-11-22T08:27:51+01:00")
    if not 1970 <= time.year <= 9998:  # beyond these it has no UTC form everywhere
        raise expectation("a time from 1970 on")
    return text


def _pixel_sides(value: object) -> tuple[float, float]:
    given = value if isinstance(value, list) else [value, value]
    low_um, high_um = _PIXEL_UM
    sides = [v for v in given if isinstance(v, int | float) and not isinstance(v, bool) and low_um <= v <= high_um]
    if len(given) != 2 or len(sides) != 2:
        raise expectation(f"a finite {low_um:g} to {high_um:g} um, or a list of two such sides: along a row, and along a column")
    if max(sides) > _STRETCH * min(sides):
        raise expectation(f"sides of which neither is more than {_STRETCH:g} times the other")
    return float(sides[0]), float(sides[1])


Text = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_plain)]
Note = Annotated[str, Field(max_length=256), AfterValidator(_plain)]  # an optional field may be left empty
Serial = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_printable)]
Time = Annotated[str, Field(max_length=64), AfterValidator(_offset_time)]
Assumption = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_plain)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")]
PathText = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_plain)]
Coordinate = Annotated[float, Field(ge=-_COORDINATE_UM, le=_COORDINATE_UM)]
PixelSides = Annotated[tuple[float, float], PlainValidator(_pixel_sides)]  # along a row, along a column


class Manifest(StrictModel):
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
    assumed: list[Assumption] = Field(default_factory=list, max_length=BOUNDS.export_assumed)


class _Entry(StrictModel):
    refdes: Text
    file: PathText
    sha256: Digest | None = None
    pixel_um: PixelSides
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
                raise expectation("one value for a transmission picture")
        elif not 1 <= len(z_um) <= MOST_SLICES:
            raise expectation(f"1 to {MOST_SLICES} values, one per slice")
        if any(low >= high for low, high in pairwise(z_um)):
            raise expectation("rising values")
        return z_um

    @property
    def key(self) -> tuple[str, str]:
        """Package and interface that it shows."""
        return self.refdes, self.interface


class HeightEntry(_Entry):
    """An image of kind `height_map`. Only uint16 needs a scale; the type is known once the file is read."""

    kind: Literal["height_map"]
    stage: Literal["pre_stack", "post_reflow"]
    scale_um: Annotated[float, Field(gt=0, le=1000.0)] | None = None
    offset_um: Coordinate = 0.0
    no_data: Annotated[int, Field(ge=-(2**31), lt=2**32)] | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Package and stage that it shows."""
        return self.refdes, self.stage


ImageEntry = SliceEntry | HeightEntry
_KINDS: dict[str, type[SliceEntry] | type[HeightEntry]] = {"xray_slices": SliceEntry, "height_map": HeightEntry}


@dataclass(frozen=True)
class ParsedManifest:
    """The usable part of an export.json, and its faults. `images` leaves out the faulty entries.

    `index` gives the place of each image in the document's list. `manifest` is None if its own fields are faulty.
    """

    manifest: Manifest | None
    images: tuple[ImageEntry, ...]
    index: tuple[int, ...]
    problems: tuple[FieldFault, ...]

    @property
    def entries(self) -> list[tuple[ImageEntry, int]]:
        """(image, place in the document's list) of each usable image."""
        return list(zip(self.images, self.index, strict=True))


def parse_manifest(document: dict[str, Any]) -> ParsedManifest:
    """Check the document of an export.json field by field."""
    manifest, problems = validate(Manifest, document)
    listed = document.get("images")
    entries: list[ImageEntry] = []
    index: list[int] = []
    for i, value in enumerate(listed[: BOUNDS.export_images] if isinstance(listed, list) else ()):
        entry, wrong = _validate_image(value, f"images[{i}]")
        problems += wrong
        if entry is not None:
            entries.append(entry)
            index.append(i)
    problems += _find_conflicts(entries, index)
    return ParsedManifest(manifest, tuple(entries), tuple(index), tuple(problems))


def _validate_image(value: object, at: str) -> tuple[ImageEntry | None, list[FieldFault]]:
    if not isinstance(value, dict):
        return None, [FieldFault(at, "an object", format_value(value))]
    kind = value.get("kind")
    model = _KINDS.get(kind) if isinstance(kind, str) else None
    if model is None:
        return None, [
            FieldFault(f"{at}.kind", "'xray_slices' or 'height_map'", format_value(kind) if "kind" in value else "nothing")
        ]
    return validate(model, value, at)


def _find_conflicts(entries: Sequence[ImageEntry], index: Sequence[int]) -> list[FieldFault]:
    """Find two images of the same thing, and two things that the same file shows."""
    problems: list[FieldFault] = []
    by_key: dict[tuple[str, str], int] = {}
    by_file: dict[str, ImageEntry] = {}
    for i, entry in zip(index, entries, strict=True):
        first = by_key.setdefault(entry.key, i)
        if first != i:
            problems.append(FieldFault(f"images[{i}]", f"one image of {'/'.join(entry.key)}", f"another one, images[{first}]"))
        other = by_file.setdefault(entry.file, entry)
        # One transmission picture shows both interfaces; so does one stack of slices at the same heights. A map has one stage.
        may_share = False
        if isinstance(other, SliceEntry) and isinstance(entry, SliceEntry):
            may_share = other.method == entry.method == "transmission" or other.z_um == entry.z_um
        if first == i and other is not entry and not may_share:
            found = f"the file of {'/'.join(other.key)}"
            problems.append(
                FieldFault(
                    f"images[{i}].file", f"a file that shows {'/'.join(entry.key)}", f"{format_value(entry.file)}, {found}"
                )
            )
    return problems
