"""Read a map: the TOML file that says where a machine keeps the pictures of a board, and what they are.

One map serves all boards of a machine. All of its faults are reported at once. What it leaves out is read from the pictures'
files, or found from the balls, and then listed as assumed.
"""

import difflib
import tomllib
from itertools import pairwise
from pathlib import Path, PureWindowsPath
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from inspect_pop.convert.board_path import BoardPattern, check_names, strip_names
from inspect_pop.core.errors import MapFault
from inspect_pop.ingest.document import FieldFault, StrictModel, expectation, format_value, to_fault, validate
from inspect_pop.ingest.files import BOUNDS, decode_text, read_bytes
from inspect_pop.ingest.manifest import Coordinate, Note, PathText, Serial, Text

__all__ = ["BoardEntry", "ImageMap", "MachineMap", "load_map"]

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
