"""Read a map, and find the boards that its paths describe.

`{product}_{serial}_{time:%Y%m%d%H%M%S}` reads a folder's name; `lots/{lot}/{serial}` reads two levels. `{_}` and names that
begin with `_` match text that no field takes.
"""

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from fnmatch import translate
from functools import cached_property
from itertools import pairwise
from pathlib import Path, PureWindowsPath
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from inspect_pop.core.errors import FileFault, MapFault, PathFault, describe_error
from inspect_pop.ingest.document import (
    Coordinate,
    FieldFault,
    Note,
    PathText,
    Serial,
    StrictModel,
    Text,
    expectation,
    format_value,
    to_fault,
    validate,
)
from inspect_pop.ingest.files import BOUNDS, decode_text, read_bytes, resolve_inside

__all__ = [
    "FIELDS",
    "BoardEntry",
    "BoardPattern",
    "FoundBoard",
    "ImageMap",
    "MachineMap",
    "check_names",
    "fill_names",
    "find_boards",
    "list_files",
    "load_map",
    "natural_key",
    "strip_names",
]

FIELDS = ("serial", "product", "lot", "work_order", "line", "station", "operator", "panel", "position", "time")
_NAME = re.compile(r"\{([^{}:]*)(?::([^{}]*))?\}")
# Directives of strptime that have a fixed width, and their digits.
_DIGITS = {"Y": 4, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2, "y": 2, "j": 3}
_MOST_FILES = 20_000  # of one image: a stack of as many planes has no use


def strip_names(text: str) -> str:
    """Return a pattern with each name in braces replaced by one letter."""
    return _NAME.sub("x", text)


def check_names(text: str) -> str:
    """Return a pattern; raise the error of a map for names in braces that are not known, or braces that do not close."""
    for name, style in _NAME.findall(text):
        if name.startswith("_"):
            continue
        if name not in FIELDS:
            raise expectation(f"names in braces of {', '.join(FIELDS)}, or one that begins with _, not {{{name}}}")
        if style and name != "time":
            raise expectation(f"a format in {{{name}}} only for time, such as {{time:%Y%m%d%H%M%S}}")
    if set("{}") & set(strip_names(text)):
        raise expectation("braces in pairs")
    return text


@dataclass(frozen=True)
class FoundBoard:
    """A board below a source: its folder, the fields that its path gives (`time` in ISO 8601 without an offset), its name.

    `folder` is the folder that all its files must lie in; where a file matched the pattern, the one that holds it. `fault` says
    why the path gives no fields.
    """

    path: Path
    folder: Path
    fields: Mapping[str, str]
    fault: Exception | None = None


@dataclass(frozen=True)
class BoardPattern:
    """The pattern of a board's path below a source, segment by segment."""

    text: str

    def __post_init__(self) -> None:
        names = [name for name in self._all_names if not name.startswith("_")]
        if len(set(names)) < len(names):
            raise expectation("each name in braces once")
        for name, style in _NAME.findall(self.text):
            if name == "time":
                if not style:
                    raise expectation("a format for time, such as {time:%Y%m%d%H%M%S}")
                _compile_time(style)

    @property
    def _all_names(self) -> list[str]:
        return [name for name, _ in _NAME.findall(self.text)]

    @property
    def names(self) -> set[str]:
        """Fields that a path gives."""
        return {name for name in self._all_names if not name.startswith("_")}

    @cached_property
    def segments(self) -> list["_Segment"]:
        """One for each folder level."""
        return [_Segment(part) for part in self.text.replace("\\", "/").split("/") if part not in ("", ".")]


@dataclass(frozen=True)
class _Segment:
    """One level of a pattern."""

    text: str

    @cached_property
    def _parts(self) -> tuple[re.Pattern[str], re.Pattern[str], list[tuple[str, str]]]:
        names: list[tuple[str, str]] = _NAME.findall(self.text)
        lazy = greedy = ""
        at = 0
        for match in _NAME.finditer(self.text):
            fixed = re.escape(self.text[at : match.start()])
            time = _compile_time(match[2]) if match[1] == "time" else ""
            lazy, greedy = lazy + fixed + f"({time or '.+?'})", greedy + fixed + f"({time or '.+'})"
            at = match.end()
        rest = re.escape(self.text[at:])
        return re.compile(lazy + rest), re.compile(greedy + rest), names

    def match(self, name: str) -> dict[str, str] | None:
        """Return the fields of a name, None where it does not match. Raises `PathFault` for a name that reads in two ways."""
        lazy, greedy, names = self._parts
        first, last = lazy.fullmatch(name), greedy.fullmatch(name)
        if first is None or last is None:
            return None
        fields = dict(zip((n for n, _ in names), first.groups(), strict=True))
        others = dict(zip((n for n, _ in names), last.groups(), strict=True))
        if differing := [n for n in fields if fields[n] != others[n] and not n.startswith("_")]:
            found = f"{differing[0]} {fields[differing[0]]!r} or {others[differing[0]]!r}"
            raise PathFault(
                name,
                expected=f"a name that {self.text} reads in one way",
                found=found,
                remedy="Write the fixed part of the name into the pattern.",
            )
        for field, style in names:
            if field == "time":
                try:
                    fields[field] = datetime.strptime(fields[field], style).isoformat()
                except ValueError as error:
                    raise PathFault(name, expected=f"a time of the form {style}", found=str(error)) from error
        return {field: value for field, value in fields.items() if not field.startswith("_")}


def _compile_time(style: str) -> str:
    """Return the regular expression of a time format whose directives have a fixed width."""
    pattern = ""
    for part in re.split(r"(%.)", style):
        if part.startswith("%"):
            if part[1:] not in _DIGITS:
                raise expectation(f"a time of %{', %'.join(_DIGITS)}, not {part}")
            pattern += rf"\d{{{_DIGITS[part[1:]]}}}"
        else:
            pattern += re.escape(part)
    return pattern


def find_boards(source: Path, pattern: BoardPattern) -> list[FoundBoard]:
    """Find the boards below a source in natural order; where there are none, the source itself may be one.

    Hidden files and folders are passed over. A link that leads out of the source is a board with a fault.
    """
    top = source.resolve()
    found = list(_walk(top, top, pattern.segments, {}))
    segments = pattern.segments
    for levels in range(1, len(segments) + 1):
        if found:
            return found
        fields: dict[str, str] = {}
        for segment, name in zip(segments[:levels], top.parts[-levels:], strict=False):
            match = segment.match(name)
            if match is None:
                break
            fields |= match
        else:
            found = list(_walk(top if top.is_dir() else top.parent, top, segments[levels:], fields))
    return found


def _walk(limit: Path, folder: Path, segments: list[_Segment], fields: Mapping[str, str]) -> Iterator[FoundBoard]:
    if not segments:
        yield FoundBoard(folder, folder if folder.is_dir() else folder.parent, fields)
        return
    if not folder.is_dir():
        return
    try:
        names = sorted((path.name for path in folder.iterdir()), key=natural_key)
    except OSError as error:
        fault = FileFault(str(folder), expected="a folder that can be listed", found=describe_error(error))
        yield FoundBoard(folder, folder, fields, fault)
        return
    for name in names:
        if name.startswith("."):
            continue
        try:
            more = segments[0].match(name)
            if more is None or (len(segments) > 1 and not (folder / name).is_dir()):
                continue
            resolve_inside(name, folder, limit, str(folder / name))
        except PathFault as fault:
            yield FoundBoard(folder / name, folder / name, fields, fault)
            continue
        yield from _walk(limit, folder / name, segments[1:], {**fields, **more})


def fill_names(text: str, fields: Mapping[str, str]) -> str:
    """Fill the names in braces of a path with a board's fields, which never add a level to it; what is left matches anything."""

    def fill(match: re.Match[str]) -> str:
        if match[1].startswith("_"):
            return "*"
        value = fields.get(match[1])
        return "*" if value is None else re.sub(r"[/\\\0]", "_", value)

    return _NAME.sub(fill, text)


def list_files(folder: Path, pattern: str, fields: Mapping[str, str]) -> list[Path]:
    """List the files of a board that a map's `files` names, in natural order; a single folder among them is listed itself.

    Upper and lower case are the same. Raises `PathFault` for a link that leaves the board's folder, `FileFault` for too many.
    """
    parts = [part for part in pattern.replace("\\", "/").split("/") if part not in ("", ".")]
    # Fields are text, not patterns: a serial may hold [ or *.
    filled = [fill_names(part, {name: re.sub(r"([*?\[])", r"[\1]", value) for name, value in fields.items()}) for part in parts]
    found = [folder]
    for part in filled:
        matcher = re.compile(translate(part.lower()))
        found = [at / name for at in found if at.is_dir() for name in _list_names(at) if matcher.match(name.lower())]
    if len(found) == 1 and found[0].is_dir():
        found = [found[0] / name for name in _list_names(found[0])]
    files = [path for path in found if not path.is_dir()]
    if len(files) > _MOST_FILES:
        raise FileFault(str(folder / pattern), expected=f"at most {_MOST_FILES:,} files", found=f"{len(files):,}")
    for path in files:
        resolve_inside(path.name, path.parent, folder, str(path))
    return files


def _list_names(folder: Path) -> Iterable[str]:
    return sorted((path.name for path in folder.iterdir() if not path.name.startswith(".")), key=natural_key)


def natural_key(name: str) -> tuple[list[tuple[int, int | str]], str]:
    """Return a sort key in which 2 comes before 10."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part)) if part.isdecimal() else (1, part.lower()) for part in parts if part], name


# Read a map: the TOML file that says where a machine keeps the pictures of a board, and what they are.
#
# One map serves all boards of a machine. All of its faults are reported at once. What it leaves out is read from the pictures'
# files, or found from the balls, and then listed as assumed.


DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
_UNITS_UM = {"nm": 1e-3, "um": 1.0, "mm": 1e3, "m": 1e6}
_IMAGES = 64


def _relative(text: str) -> str:
    plain = PureWindowsPath(strip_names(text))
    if plain.is_absolute() or plain.drive or plain.root or ".." in plain.parts:
        raise expectation("a path inside the board's folder, without .. and not absolute")
    return check_names(text)


RelativePath = Annotated[PathText, AfterValidator(_relative)]
Pixel = Annotated[float, Field(ge=0.1, le=1000.0)]  # as in an export
PixelPair = Annotated[list[Pixel], Field(min_length=2, max_length=2)]
Step = Annotated[float, Field(gt=0, le=10_000)]
Box = Annotated[list[Annotated[int, Field(ge=0, le=BOUNDS.image_side_px)]], Field(min_length=4, max_length=4)]


class _Entry(StrictModel):
    """A table of the map. A key that it does not know is a fault: it may be a misspelled one."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class BoardEntry(_Entry):
    """The table `[board]`: how a board's folder is found, and what goes into its record where the path does not say it."""

    path: Annotated[PathText, AfterValidator(_relative), AfterValidator(lambda text: BoardPattern(text).text)] = "{serial}"
    recipe: Annotated[PathText, AfterValidator(check_names)]
    serial: Serial | None = None
    product: Text | None = None
    lot: Note | None = None
    work_order: Note | None = None
    line: Text | None = None
    station: Text | None = None
    operator: Note | None = None
    panel: Note | None = None
    position: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    utc_offset: Annotated[str, Field(pattern=r"^[+-]\d{2}:\d{2}$")] | None = None

    def find_conflicts(self) -> list[tuple[bool, str]]:
        """Return (is it so, what is expected instead) of each contradiction between fields."""
        names = BoardPattern(self.path).names
        return [
            (getattr(self, name) is None and name not in names, f"{name} = …, or {{{name}}} in path")
            for name in ("serial", "line", "station")
        ]


class ImageMap(_Entry):
    """A table `[[image]]`: which files show an interface or a surface, and what they do not say themselves."""

    kind: Literal["xray_slices", "height_map"]
    refdes: Text
    files: RelativePath
    interface: Literal["lower", "upper"] | None = None
    stage: Literal["pre_stack", "post_reflow"] | None = None
    optional: bool = False
    pixel_um: Pixel | PixelPair | None = None
    origin_um: Annotated[list[Coordinate], Field(min_length=2, max_length=2)] | None = None
    turn_deg: Literal[0, 90, 180, 270] = 0
    mirror: bool = False
    mask_px: list[Box] = Field(default_factory=list, max_length=64)
    # X-ray
    z_um: Annotated[list[Coordinate], Field(min_length=1, max_length=64)] | None = None
    z_first_um: Coordinate | None = None
    z_step_um: Annotated[float, Field(ge=-10_000, le=10_000)] | None = None
    first_plane: Literal["bottom", "top", "auto"] = "auto"
    polarity: Literal["solder_bright", "solder_dark", "auto"] = "auto"
    method: Literal["laminography", "ct", "transmission"] | None = None
    # raw pixels without a header
    shape: Annotated[list[Annotated[int, Field(gt=0, le=1_000_000)]], Field(min_length=2, max_length=3)] | None = None
    dtype: Literal["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"] | None = None
    byte_order: Literal["little", "big"] = "little"
    skip_bytes: Annotated[int, Field(ge=0, lt=2**40)] = 0
    # heights
    unit: Literal["nm", "um", "mm", "m"] | None = None
    scale_um: Annotated[float, Field(gt=0, le=100_000.0)] | None = None
    offset_um: Coordinate = 0.0
    no_data: float | None = None

    def find_conflicts(self) -> list[tuple[bool, str]]:
        """Return (is it so, what is expected instead) of each contradiction between fields."""
        slices = self.kind == "xray_slices"
        z = self.z_um or []
        return [
            (slices and self.interface is None, "interface = 'lower' or 'upper' for xray_slices"),
            (not slices and self.stage is None, "stage = 'pre_stack' or 'post_reflow' for a height_map"),
            (slices and self.stage is not None, "no stage for xray_slices"),
            (not slices and self.interface is not None, "no interface for a height_map"),
            (self.z_um is not None and self.z_first_um is not None, "z_um, or z_first_um and z_step_um, not both"),
            (self.z_first_um is not None and not self.z_step_um, "z_step_um, other than 0, beside z_first_um"),
            (self.z_step_um == 0, "a z_step_um other than 0"),
            (any(a == b for a, b in pairwise(sorted(z))), "each height of z_um once"),
            (z != sorted(z) and z != sorted(z, reverse=True), "z_um rising or falling, one height a page"),
            ((self.shape is None) != (self.dtype is None), "shape and dtype together, for raw pixels without a header"),
            (self.unit is not None and self.scale_um is not None, "unit or scale_um, not both"),
            (any(a >= c or b >= d for a, b, c, d in self.mask_px), "mask_px as [left, top, right, bottom] in pixels"),
        ]

    @property
    def pixel_pair_um(self) -> tuple[float, float] | None:
        """Distance of pixels along a row and down a column, or None where the map does not say it."""
        if self.pixel_um is None:
            return None
        return (self.pixel_um, self.pixel_um) if isinstance(self.pixel_um, float | int) else (self.pixel_um[0], self.pixel_um[1])

    @property
    def name(self) -> str:
        """Short name in messages, such as `U1/lower`."""
        return f"{self.refdes}/{self.interface or self.stage}"

    @property
    def value_um(self) -> float | None:
        """Micrometres of one unit of a height, or None where the map does not say it."""
        return self.scale_um if self.scale_um is not None else _UNITS_UM.get(self.unit or "")


Table = TypeVar("Table", BoardEntry, ImageMap)


class MachineMap(_Entry):
    """A whole map; `folder` is where the file lies, `text` what it holds."""

    board: BoardEntry
    image: Annotated[list[ImageMap], Field(min_length=1, max_length=_IMAGES)]
    folder: Path = Path()
    text: str = ""

    @property
    def pattern(self) -> BoardPattern:
        """The pattern of a board's path below a source."""
        return BoardPattern(self.board.path)


def load_map(path: Path) -> MachineMap:
    """Read a map file. Raises `MapFault` with every fault at once; `FileFault` does not occur."""
    text = decode_text(path, read_bytes(path, BOUNDS.recipe_bytes, MapFault), MapFault)
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise MapFault(str(path), expected="TOML", found=str(error), remedy="docs/convert.md has an example.") from error
    faults = [_describe_unknown(name, MachineMap) for name in document if name not in ("board", "image")]
    board, wrong = _check_table(BoardEntry, document.get("board", {}), "board")
    faults += wrong
    listed = document.get("image")
    if not isinstance(listed, list) or not 1 <= len(listed) <= _IMAGES:
        faults.append(FieldFault("image", f"1 to {_IMAGES} tables [[image]]", format_value(listed)))
        listed = []
    images: list[ImageMap] = []
    for index, value in enumerate(listed):
        image, wrong = _check_table(ImageMap, value, f"image[{index}]")
        faults += wrong
        images += [image] if image is not None else []
    names = [image.name for image in images]
    faults += [FieldFault("image", f"one image of {name}", "several") for name in dict.fromkeys(names) if names.count(name) > 1]
    if faults or board is None:
        raise to_fault(path, faults, MapFault)
    return MachineMap(board=board, image=images, folder=path.resolve().parent, text=text)


def _check_table(model: type[Table], value: object, at: str) -> tuple[Table | None, list[FieldFault]]:
    """Validate one table: its fields, and what the usable ones of them contradict."""
    entry, faults = validate(model, value, at)
    faults = [
        _describe_unknown(fault.field.rpartition(".")[2], model, at) if fault.expected.startswith("Extra inputs") else fault
        for fault in faults
    ]
    if isinstance(value, dict):
        faulty = {fault.field.removeprefix(f"{at}.").partition("[")[0].partition(".")[0] for fault in faults}
        usable = {key: value[key] for key in model.model_fields if key in value and key not in faulty}
        required = {key: None for key, field in model.model_fields.items() if field.is_required()}
        wrong = (entry or model.model_construct(**{**required, **usable})).find_conflicts()
        faults += [FieldFault(at, what, "otherwise") for is_wrong, what in wrong if is_wrong and not faulty & set(what.split())]
    return (None if faults else entry), faults


def _describe_unknown(name: str, model: type[BaseModel], at: str = "") -> FieldFault:
    known: list[Any] = [key for key in model.model_fields if key not in ("folder", "text")]
    near = difflib.get_close_matches(name, known, 1, 0.6)
    expected = f"a key of the map, such as {near[0]}" if near else f"one of {', '.join(known)}"
    return FieldFault(f"{at}.{name}" if at else name, expected, "an unknown key")
