"""Bad exports by kind: a good board, spoilt in one way, and what must become of it.

`outcome` is the declared error, or `decide` where the board can still be inspected, with what was lost recorded.
`says` are fragments that the message must hold: the thing, and what is wrong with it.
"""

import json
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from inspect_pop.core.errors import FileFault, ImageFault, InputFault, ManifestFault, PathFault, RecipeFault
from tests.ingest.boards import edit, heights, joints, recipe, seal, slices, table, write_json

DECIDE = "decide"
LOWER, UPPER = "xray/U1_lower.tif", "xray/U1_upper.tif"
PRE, POST = "height/U1_pre_stack.tif", "height/U1_post_reflow.tif"


@dataclass(frozen=True)
class Kind:
    name: str
    outcome: type[InputFault] | str
    says: tuple[str, ...]
    spoil: Callable[[Path], None]


KINDS: list[Kind] = []


def kind(name: str, outcome: type[InputFault] | str, *says: str) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    def add(spoil: Callable[[Path], None]) -> Callable[[Path], None]:
        KINDS.append(Kind(name, outcome, says, spoil))
        return spoil

    return add


def field(name: str, path: str, value: Any, outcome: type[InputFault] | str = ManifestFault, *says: str) -> None:
    """A kind with one field of export.json exchanged; `path` such as `images.0.z_um`, DROP to leave it out."""

    def spoil(board: Path) -> None:
        edit(board / "export.json", lambda document: put(document, path, value))

    KINDS.append(Kind(name, outcome, says or (() if outcome == DECIDE else (shown(path),)), spoil))


def recipe_field(name: str, path: str, value: Any, *says: str) -> None:
    def spoil(board: Path) -> None:
        edit(board.parents[1] / "recipes/tiny.json", lambda document: put(document, path, value))

    KINDS.append(Kind(name, RecipeFault, says or (shown(path),), spoil))


def rows(name: str, text: str | bytes, outcome: type[InputFault] | str, *says: str) -> None:
    """A kind with another table of lower joints."""

    def spoil(board: Path) -> None:
        data = text if isinstance(text, bytes) else text.encode()
        (board.parents[1] / "recipes/U1_lower.csv").write_bytes(data)

    KINDS.append(Kind(name, outcome, says or (("U1_lower.csv",) if outcome != DECIDE else ()), spoil))


def image(name: str, file: str, outcome: type[InputFault] | str, *says: str, **write: Any) -> None:
    """A kind with another picture in an image's file."""

    def spoil(board: Path) -> None:
        write_tiff(board / file, **write)

    KINDS.append(Kind(name, outcome, (Path(file).name, *says) if outcome != DECIDE else says, spoil))


def raw(name: str, file: str, change: Callable[[bytes], bytes], outcome: type[InputFault] | str, *says: str) -> None:
    """A kind with the bytes of a file changed."""

    def spoil(board: Path) -> None:
        path = board / file
        path.write_bytes(change(path.read_bytes()))

    KINDS.append(Kind(name, outcome, (Path(file).name, *says) if outcome != DECIDE else says, spoil))


DROP = object()


def put(document: Any, path: str, value: Any) -> None:
    *way, last = [int(p) if p.isdigit() else p for p in path.split(".")]
    for part in way:
        document = document[part]
    if value is DROP:
        del document[last]
    else:
        document[last] = value(document[last]) if callable(value) else value


def shown(path: str) -> str:
    """`images.0.z_um` as a message writes it: `images[0].z_um`."""
    out = ""
    for part in path.split("."):
        out += f"[{part}]" if part.isdigit() else f".{part}" if out else part
    return out


def write_tiff(path: Path, values: Any = None, pages: list[np.ndarray] | None = None, **options: Any) -> None:
    with tifffile.TiffWriter(path, bigtiff=options.pop("bigtiff", False), byteorder=options.pop("byteorder", None)) as tif:
        for page in values if pages is None else pages:
            tif.write(page, photometric="minisblack", contiguous=False, **options)


def tags_of(data: bytes) -> dict[int, int]:
    """Offset of each tag's entry in the first directory of a classic little-endian TIFF."""
    at = struct.unpack_from("<I", data, 4)[0]
    (n,) = struct.unpack_from("<H", data, at)
    return {struct.unpack_from("<H", data, at + 2 + 12 * i)[0]: at + 2 + 12 * i for i in range(n)}


def tag(code: int, value: int, count: int | None = None) -> Callable[[bytes], bytes]:
    """Exchange the value (and count) of a tag of the first page."""

    def change(data: bytes) -> bytes:
        out, at = bytearray(data), tags_of(data)[code]
        short = struct.unpack_from("<H", data, at + 2)[0] == 3
        if short and value > 65535:
            struct.pack_into("<H", out, at + 2, 4)
            short = False
        if count is not None:
            struct.pack_into("<I", out, at + 4, count)
        struct.pack_into("<HH" if short else "<I", out, at + 8, *((value, 0) if short else (value,)))
        return bytes(out)

    return change


def flat(n: int = 5, shape: tuple[int, int] = (60, 60), dtype: Any = np.uint16, value: float = 0) -> np.ndarray:
    return np.full((n, *shape), value, dtype)


def some_lost(values: np.ndarray, pages: dict[int, Any]) -> np.ndarray:
    out = values.copy()
    for page, value in pages.items():
        out[page] = value
    return out


def number_text(replace: str, by: str) -> Callable[[bytes], bytes]:
    """Exchange text in export.json that JSON writers would not write."""

    def change(data: bytes) -> bytes:
        assert replace.encode() in data
        return data.replace(replace.encode(), by.encode(), 1)

    return change


# the manifest as a file
raw("manifest empty", "export.json", lambda d: b"", FileFault, "empty")
raw("manifest cut short", "export.json", lambda d: d[: len(d) // 2], ManifestFault, "JSON")
raw("manifest is a list", "export.json", lambda d: b"[" + d + b"]", ManifestFault, "object")
raw("manifest is a picture", "export.json", lambda d: b"II*\0" + bytes(200), ManifestFault, "JSON")
raw("manifest in UTF-16", "export.json", lambda d: d.decode().encode("utf-16"), DECIDE)
raw("manifest in UTF-16 that is cut", "export.json", lambda d: d.decode().encode("utf-16")[:-1], ManifestFault, "UTF-8")
raw("manifest in Latin-1", "export.json", lambda d: d.replace(b"PN-07", "PN-\xe4".encode("latin-1")), ManifestFault, "UTF-8")
raw("manifest with a byte order mark", "export.json", lambda d: b"\xef\xbb\xbf" + d, DECIDE)
raw("manifest nested without end", "export.json", lambda d: b'{"a":' * 200_000 + b"1" + b"}" * 200_000, ManifestFault, "nesting")
raw(
    "manifest with a name twice",
    "export.json",
    lambda d: d.replace(b'"serial"', b'"serial": "other", "serial"'),
    ManifestFault,
    "serial",
    "twice",
)
raw("manifest too large", "export.json", lambda d: d + b" " * (5 << 20), FileFault, "at most")
raw("manifest with NaN", "export.json", number_text('"pixel_um": 50.0', '"pixel_um": NaN'), ManifestFault, "NaN")
raw("manifest with Infinity", "export.json", number_text('"pixel_um": 50.0', '"pixel_um": -Infinity'), ManifestFault, "Infinity")
raw(
    "manifest with 1e400",
    "export.json",
    number_text('"pixel_um": 50.0', '"pixel_um": 1e400'),
    ManifestFault,
    "images[0].pixel_um",
    "finite",
)
raw(
    "manifest with an endless integer",
    "export.json",
    number_text('"position": 3', '"position": 3' + "0" * 6000),
    ManifestFault,
    "digits",
)
raw("manifest with decimal commas", "export.json", number_text('"pixel_um": 50.0', '"pixel_um": 50,0'), ManifestFault, "JSON")
raw("manifest with half a character", "export.json", number_text("PN-07", "\\ud800"), ManifestFault, "panel")


@kind("manifest is a folder", FileFault, "export.json", "folder")
def _(board: Path) -> None:
    (board / "export.json").unlink()
    (board / "export.json").mkdir()


@kind("manifest is a pipe", FileFault, "export.json", "pipe")
def _(board: Path) -> None:
    (board / "export.json").unlink()
    os.mkfifo(board / "export.json")


@kind("manifest linked from outside", PathFault, "export.json", "inside")
def _(board: Path) -> None:
    (board / "export.json").rename(board.parents[2] / "export.json")
    (board / "export.json").symlink_to(board.parents[2] / "export.json")


@kind("manifest is a link to nothing", FileFault, "export.json")
def _(board: Path) -> None:
    (board / "export.json").unlink()
    (board / "export.json").symlink_to("nothing.json")


# the manifest's fields
field("schema of another version", "schema", "pop-export/2")
field("schema missing", "schema", DROP)
field("serial missing", "serial", DROP)
field("serial a number", "serial", 12345)
field("serial empty", "serial", "")
field("serial with a new line", "serial", "A\nB")
field("serial of 129 characters", "serial", "A" * 129)
field("serial of 128 characters of many alphabets", "serial", "条码 Ж-ש‌۴é👩‍🔧".ljust(128, "7"), DECIDE)
field("position is text", "position", "3")
field("position is true", "position", True)
field("position negative", "position", -1)
field("position huge", "position", 10**30)
field("optional fields null", "lot", None, DECIDE)
field("optional fields empty", "operator", "", DECIDE)
field("line empty", "line", "")
field("pixel_um an integer beyond any float", "images.0.pixel_um", 10**400)
field("position a fraction", "position", 3.0)
field("optional fields missing", "work_order", DROP, DECIDE)
field("fields of a later version", "climate", {"humidity": [0.4]}, DECIDE)
field("product missing", "product", DROP)
field("line null", "line", None)
field("text with a NUL", "operator", "op\0")
field("time without offset", "inspected_at", "2026-11-22T08:27:51")
field("time in words", "inspected_at", "yesterday")
field("time of the year 1", "inspected_at", "0001-01-01T00:00:00+00:00")
field("images an object", "images", {})
field("images holds a number", "images.1", 7)
field("image of an unknown kind", "images.0.kind", "thermogram")
field("image without a kind", "images.0.kind", DROP)
field("z_um is text", "images.0.z_um", "5,45,85")
field("z_um of texts", "images.0.z_um", ["5", "45", "85", "125", "165"], ManifestFault, "images[0].z_um[0]", "images[0].z_um[4]")
field("z_um falling", "images.0.z_um", [165.0, 125.0, 85.0, 45.0, 5.0])
field("z_um with a height twice", "images.0.z_um", [5.0, 45.0, 45.0, 125.0, 165.0])
field("z_um of two for five pages", "images.0.z_um", [5.0, 45.0], ImageFault, "U1_lower.tif", "expected 2 pages")
field("z_um of 65", "images.0.z_um", [5.0 + 2.5 * k for k in range(65)])
field("z_um empty", "images.0.z_um", [])
field("z_um in millimetres", "images.0.z_um", [0.005, 0.045, 0.085, 0.125, 0.165], RecipeFault, "images[0].z_um")
field("z_um of the other interface", "images.0.z_um", [525.0, 578.0, 630.0, 682.0, 735.0], RecipeFault, "images[0].z_um")
field("transmission with five heights", "images.0.method", "transmission", ManifestFault, "images[0].z_um")
field("method unknown", "images.0.method", "tomosynthesis")
field("polarity unknown", "images.0.polarity", "bright")
field("pixel_um negative", "images.0.pixel_um", -50.0)
field("pixel_um zero", "images.0.pixel_um", 0)
field("pixel_um in metres", "images.0.pixel_um", 5e-5)
field("pixel_um is true", "images.0.pixel_um", True)
field("pixel_um of three sides", "images.0.pixel_um", [50.0, 50.0, 50.0])
field("pixel_um null", "images.0.pixel_um", None)
field("origin_um of one number", "images.0.origin_um", [-1475.0])
field("origin_um of three numbers", "images.0.origin_um", [-1475.0, 1475.0, 0.0])
field("origin_um huge", "images.0.origin_um", [1e300, 1475.0], ManifestFault, "images[0].origin_um[0]")
field("scale_um zero", "images.2.scale_um", 0)
field("scale_um negative", "images.2.scale_um", -1.0)
field("no_data is text", "images.2.no_data", "none")
field("sha256 too short", "images.0.sha256", "abc")
field("file a number", "images.0.file", 7)
field("file empty", "images.0.file", "")
field("file with a NUL", "images.0.file", "xray/\0.tif")
field("refdes of no package", "images.0.refdes", "U9", RecipeFault, "images[0].refdes", "U9")
field("product of another recipe", "product", "OTHER", RecipeFault, "product", "OTHER")
field("two pictures of one interface", "images.1.interface", "lower", ManifestFault, "images[1]", "U1/lower")
field("one picture for two interfaces", "images.1.file", LOWER, ManifestFault, "images[1].file")
field("one map for two stages", "images.3.file", PRE, ManifestFault, "images[3].file")
field("no image at all", "images", [], DECIDE)
field("no upper slices", "images.1", DROP, DECIDE)

# where files lie
field("file absolute", "images.0.file", "/etc/passwd", PathFault, "images[0].file")
field("file climbs out", "images.0.file", "../B2/xray/U1_lower.tif", PathFault, "images[0].file")
field("file climbs out and is a device", "images.0.file", "../../../../../../../../../../dev/zero", PathFault, "images[0].file")
field("file not there", "images.0.file", "xray/none.tif", FileFault, "none.tif")
field("file is the folder", "images.0.file", ".", FileFault, "folder")
field("file with a name without end", "images.0.file", "x" * 900, FileFault, "xxx")
field("recipe absolute", "recipe", "/etc/passwd", PathFault, "recipe")
field("recipe outside the batch", "recipe", "../../../recipes/tiny.json", PathFault, "recipe")
field("recipe not there", "recipe", "../../recipes/none.json", RecipeFault, "none.json")


@kind("image linked from outside", PathFault, "images[0].file")
def _(board: Path) -> None:
    (board / LOWER).rename(board.parents[2] / "elsewhere.tif")
    (board / LOWER).symlink_to(board.parents[2] / "elsewhere.tif")


@kind("image linked from inside", DECIDE)
def _(board: Path) -> None:
    (board / LOWER).rename(board / "lower.tif")
    (board / LOWER).symlink_to("../lower.tif")


@kind("image folder linked from outside", PathFault, "images[0].file")
def _(board: Path) -> None:
    (board / "xray").rename(board.parents[2] / "xray")
    (board / "xray").symlink_to(board.parents[2] / "xray")


@kind("image a circle of links", PathFault, "images[0].file")
def _(board: Path) -> None:
    (board / LOWER).unlink()
    (board / LOWER).symlink_to("U1_lower.tif")


@kind("recipe linked from outside", PathFault, "recipe")
def _(board: Path) -> None:
    path = board.parents[1] / "recipes/tiny.json"
    path.rename(board.parents[2] / "tiny.json")
    path.symlink_to(board.parents[2] / "tiny.json")


@kind("table linked from outside", PathFault, "lower")
def _(board: Path) -> None:
    path = board.parents[1] / "recipes/U1_lower.csv"
    path.rename(board.parents[2] / "U1_lower.csv")
    path.symlink_to(board.parents[2] / "U1_lower.csv")


@kind("image is a pipe", FileFault, "U1_lower.tif")
def _(board: Path) -> None:
    (board / LOWER).unlink()
    os.mkfifo(board / LOWER)


@kind("image is a folder", FileFault, "U1_lower.tif", "folder")
def _(board: Path) -> None:
    (board / LOWER).unlink()
    (board / LOWER).mkdir()


# the recipe and its tables
@kind("recipe empty", RecipeFault, "tiny.json", "empty")
def _(board: Path) -> None:
    (board.parents[1] / "recipes/tiny.json").write_bytes(b"")


@kind("recipe in UTF-16", DECIDE)
def _(board: Path) -> None:
    (board.parents[1] / "recipes/tiny.json").write_text(json.dumps(recipe()), encoding="utf-16")


@kind("recipe is a folder", RecipeFault, "tiny.json", "folder")
def _(board: Path) -> None:
    (board.parents[1] / "recipes/tiny.json").unlink()
    (board.parents[1] / "recipes/tiny.json").mkdir()


@kind("recipe wrong in three places", RecipeFault, "revision", "packages[0].body_um", "packages[0].interfaces[0].solder")
def _(board: Path) -> None:
    document = recipe(revision="4")
    document["packages"][0]["body_um"] = [2400]
    document["packages"][0]["interfaces"][0]["solder"] = None
    write_json(board.parents[1] / "recipes/tiny.json", document)


@kind("table missing", RecipeFault, "U1_lower.csv")
def _(board: Path) -> None:
    (board.parents[1] / "recipes/U1_lower.csv").unlink()


recipe_field("recipe of another version", "schema", "pop-recipe/0")
recipe_field("recipe without packages", "packages", [])
recipe_field("recipe with a package twice", "packages", lambda p: p * 2)
recipe_field("recipe without interfaces", "packages.0.interfaces", [])
recipe_field("recipe with an interface twice", "packages.0.interfaces", lambda i: [i[0], i[0]])
recipe_field("recipe with the pads' heights swapped", "packages.0.interfaces.0.pads_z_um", [170, 0])
recipe_field(
    "recipe with the interfaces swapped", "packages.0.interfaces", lambda i: [i[0] | {"name": "upper"}, i[1] | {"name": "lower"}]
)
recipe_field("recipe with pads above the stack", "packages.0.stack_height_um", 600, "packages[0].interfaces")
recipe_field("recipe with a pitch of zero", "packages.0.interfaces.0.pitch_um", 0)
recipe_field("recipe with a negative pitch", "packages.0.interfaces.0.pitch_um", -400)
recipe_field("recipe with balls wider than the pitch", "packages.0.interfaces.0.ball_diameter_um", 400)
recipe_field("recipe with pads wider than the pitch", "packages.0.interfaces.0.pad_diameter_um", 4000)
recipe_field("recipe with a body in millimetres", "packages.0.body_um", [2.4, 2.4], "U1_lower.csv", "inside the body")
recipe_field("recipe of an unknown construction", "packages.0.construction", "flip_chip")
recipe_field("recipe with an unknown corner", "packages.0.a1_corner", "north")
recipe_field("recipe with a table outside", "packages.0.interfaces.0.joints", "U9.csv", "U9.csv")

GOOD_ROWS = table("lower")
rows("table empty", "", RecipeFault, "U1_lower.csv", "empty")
rows("table without rows", "ball,x_um,y_um\n", RecipeFault, "U1_lower.csv", "joints")
rows("table without a head", GOOD_ROWS.split("\n", 1)[1], RecipeFault, "line 1")
rows("table with a column missing", "ball,x_um\nA1,0\n", RecipeFault, "line 1", "y_um")
rows("table with a column twice", "ball,x_um,y_um,x_um\nA1,0,0,0\n", RecipeFault, "line 1", "x_um")
rows(
    "table with semicolons and decimal commas",
    GOOD_ROWS.replace(",", ";").replace("A1;-600;600", "A1;-600,0;600,0"),
    RecipeFault,
    "line 2",
    "decimal point",
)
rows("table with decimal commas", GOOD_ROWS.replace("A1,-600,600", "A1,-600,0,600,0"), RecipeFault, "line 2", "decimal point")
rows(
    "table with quoted decimal commas",
    GOOD_ROWS.replace("A1,-600,600", 'A1,"-600,0","600,0"'),
    RecipeFault,
    "line 2",
    "decimal point",
)
rows("table with a ball twice", GOOD_ROWS + "A1,9000,0\n", RecipeFault, "line 18", "A1")
rows("table with a nameless ball", GOOD_ROWS.replace("A2,", ","), RecipeFault, "line 3")
rows(
    "table of more joints than any array has",
    "ball,x_um,y_um\n" + "".join(f"B{k},0,0\n" for k in range(50_001)),
    RecipeFault,
    "50,000 joints",
)
rows("table with nan", GOOD_ROWS.replace("A1,-600", "A1,nan"), RecipeFault, "line 2", "nan")
rows("table with a number that overflows", GOOD_ROWS.replace("A1,-600", "A1,-6e999"), RecipeFault, "line 2")
rows("table with a joint far away", GOOD_ROWS.replace("A1,-600", "A1,-600000"), RecipeFault, "A1", "inside the body")
rows("table in millimetres", GOOD_ROWS.replace("00,", "00e-3,").replace("00\n", "00e-3\n"), RecipeFault, "millimetres")
rows("table with two joints in one place", GOOD_ROWS.replace("A2,-200", "A2,-599"), RecipeFault, "A1", "A2", "half the pitch")
rows("table with an open quotation", GOOD_ROWS + '"A9,1,1\n', RecipeFault, "line 18")
rows("table in UTF-16", GOOD_ROWS.encode("utf-16"), DECIDE)
rows("table with semicolons", GOOD_ROWS.replace(",", ";"), DECIDE)
rows("table of noise", np.random.default_rng(0).bytes(5000), RecipeFault)
rows("table with a byte order mark, CRLF and blank lines", b"\xef\xbb\xbf" + GOOD_ROWS.replace("\n", "\r\n\r\n").encode(), DECIDE)
rows("table with names that JEDEC does not know", GOOD_ROWS.replace("A1,", "IO-1,"), DECIDE)

# images cut, damaged, exchanged
raw("image empty", LOWER, lambda d: b"", FileFault, "empty")
raw("image of eight bytes", LOWER, lambda d: d[:8], FileFault, "cut short")
raw("image cut after the first page", LOWER, lambda d: d[: len(d) // 5], FileFault)
raw("image cut in the middle", LOWER, lambda d: d[: len(d) // 2], FileFault)
raw("image cut by one byte", LOWER, lambda d: d[:-1], FileFault)
raw("image with half a strip zeroed", LOWER, lambda d: zeroed(d), FileFault, "damaged")
raw("map cut in the middle", POST, lambda d: d[: len(d) // 2], FileFault)
raw("map cut by one byte", POST, lambda d: d[:-1], FileFault)
raw("image is text", LOWER, lambda d: b"see the other disk\n" * 50, FileFault, "TIFF")
raw("image is a PNG", LOWER, lambda d: b"\x89PNG\r\n\x1a\n" + bytes(500), FileFault, "TIFF")
raw("image is a JPEG", LOWER, lambda d: b"\xff\xd8\xff\xe0" + bytes(500), FileFault, "TIFF")
raw("image is the manifest", LOWER, lambda d: b'{"schema": "pop-export/1"}', FileFault, "TIFF")
raw("image with a chain of pages in a circle", LOWER, lambda d: in_a_circle(d), FileFault, "circle")
raw("image of 100,000 x 100,000 pixels", LOWER, lambda d: tag(257, 100_000)(tag(256, 100_000)(d)), ImageFault)
raw("image of 60,000 x 60,000 pixels", LOWER, lambda d: tag(257, 60_000)(tag(256, 60_000)(d)), ImageFault)
raw("image with a tag of 4 GB", LOWER, lambda d: tag(273, 8, 0x3FFFFFFF)(d), FileFault, "tags")
raw("image with pixels of 65,535 samples", LOWER, lambda d: tag(277, 65_535)(d), ImageFault)
raw("image of another compression", LOWER, lambda d: tag(259, 34712)(d), ImageFault, "compression")
raw("image of an unknown compression", LOWER, lambda d: tag(259, 31337)(d), ImageFault, "compression")
raw("image of an unknown predictor", LOWER, lambda d: tag(259, 8)(tag(258, 7)(d)), ImageFault)
raw("image of 12 bits a pixel", LOWER, lambda d: tag(258, 12)(d), ImageFault, "12 bits")
raw("image with strips beyond the end", LOWER, lambda d: tag(273, 0x7FFFFFF0)(d), FileFault)
raw("image with empty strips", LOWER, lambda d: tag(279, 0)(d), FileFault)
image("image of one page too few", LOWER, ImageFault, "5 pages", "found 4", values=slices("lower")[:4])
image("image of one page too many", LOWER, ImageFault, "5 pages", "6 or more", values=np.concatenate([slices("lower")] * 2)[:6])
image("image of a thousand pages", LOWER, ImageFault, "6 or more", values=flat(1000, (8, 8)))
image("image of int16", LOWER, DECIDE, values=(slices("lower").astype(np.int32) - 32768).astype(np.int16))
image("image of uint32", LOWER, ImageFault, "uint32", values=slices("lower").astype(np.uint32))
image("image of float64", LOWER, ImageFault, "float64", values=slices("lower").astype(np.float64))
image("image of complex numbers", LOWER, ImageFault, "complex64", values=slices("lower").astype(np.complex64))
image("image of two shapes", LOWER, ImageFault, "page 5", pages=[*slices("lower")[:4], flat(1, (50, 60), value=7)[0]])
image(
    "image of two types",
    LOWER,
    ImageFault,
    "page 3",
    pages=[p.astype(np.uint8) if k == 2 else p for k, p in enumerate(slices("lower"))],
)
image("image of 4 x 4 pixels", LOWER, ImageFault, "sides", values=slices("lower")[:, :4, :4])
image("image black", LOWER, ImageFault, "one value", values=flat())
image("image white", LOWER, ImageFault, "one value", values=flat(value=65535))
image("image all NaN", LOWER, ImageFault, "pages of one value", values=flat(dtype=np.float32, value=np.nan))
image("image with a slice written twice", LOWER, ImageFault, "pages 2 and 4", values=slices("lower")[[0, 1, 2, 1, 4]])
image("image with one slice in all pages", LOWER, ImageFault, "pages 1 and 2", values=slices("lower")[[2, 2, 2, 2, 2]])
image("image with one page black", LOWER, DECIDE, "1", values=some_lost(slices("lower"), {1: 0}))
image("image with pages black and white", LOWER, DECIDE, "0", "4", values=some_lost(slices("lower"), {0: 0, 4: 65535}))
image("image with a page of NaN", LOWER, DECIDE, "2", values=some_lost(slices("lower").astype(np.float32), {2: np.nan}))
image("image with a page holding infinity", LOWER, DECIDE, "3", values=some_lost(slices("lower").astype(np.float32), {3: np.inf}))
image("image of uint8, LZW", LOWER, DECIDE, values=(slices("lower") >> 8).astype(np.uint8), compression="lzw")
image(
    "image of float32, zstd, big-endian",
    LOWER,
    DECIDE,
    values=slices("lower").astype(np.float32),
    compression="zstd",
    byteorder=">",
)
image(
    "image in tiles, BigTIFF",
    LOWER,
    DECIDE,
    values=slices("lower"),
    tile=(16, 32),
    compression="deflate",
    predictor=True,
    bigtiff=True,
)
image(
    "image as JPEG in a TIFF",
    LOWER,
    ImageFault,
    "compression",
    values=(slices("lower") >> 8).astype(np.uint8),
    compression="jpeg",
)
image("image as LZMA in a TIFF", LOWER, ImageFault, "compression", values=slices("lower"), compression="lzma")
image("map of two pages", POST, ImageFault, "one page", values=np.stack([heights("post_reflow")] * 2))
image("map of float64", POST, ImageFault, "float64", values=heights("post_reflow")[None].astype(np.float64))
image("map all NaN", POST, ImageFault, "no data", values=flat(1, (40, 40), np.float32, np.nan))
image("map flat", POST, ImageFault, "everywhere", values=flat(1, (40, 40), np.float32, 1350.0))
image("map in nanometres", POST, ImageFault, "micrometres", values=heights("post_reflow")[None] * 1000)
image(
    "map with a sign of its own for no data",
    POST,
    ImageFault,
    "NaN",
    values=np.where(heights("post_reflow") < 5, -3.4e38, 1350)[None].astype(np.float32),
)
image("map with infinities", POST, DECIDE, values=np.where(heights("post_reflow") < 5, np.inf, heights("post_reflow"))[None])
image("map of float32 without data, float32 written big-endian", POST, DECIDE, values=heights("post_reflow")[None], byteorder=">")


def zeroed(data: bytes) -> bytes:
    """The second half of the first page's pixels lost, as when a disk's block was never written."""
    at, n = (struct.unpack_from("<I", data, tags_of(data)[code] + 8)[0] for code in (273, 279))
    return data[: at + n // 2] + bytes(n - n // 2) + data[at + n :]


def in_a_circle(data: bytes) -> bytes:
    out = bytearray(data)
    (first,) = struct.unpack_from("<I", data, 4)
    (n,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", out, first + 2 + 12 * n, first)
    return bytes(out)


@kind("image colour", ImageFault, "U1_lower.tif", "one grey value")
def _(board: Path) -> None:
    tifffile.imwrite(board / LOWER, np.stack([slices("lower")] * 3, -1), photometric="rgb")


@kind("image of one bit", ImageFault, "U1_lower.tif")
def _(board: Path) -> None:
    tifffile.imwrite(board / LOWER, slices("lower") > 4000, photometric="minisblack")


@kind("image a bomb of deflate", FileFault, "U1_lower.tif")
def _(board: Path) -> None:
    write_bomb(board / LOWER, inflating(2 << 30), rows_px=60)


@kind("image a bomb of strips over one another", FileFault, "U1_lower.tif", "over one another")
def _(board: Path) -> None:
    write_bomb(board / LOWER, zlib.compress(bytes(1 << 20)), rows_px=60_000, strips=60_000)


@kind("image a bomb of one tile", ImageFault, "U1_lower.tif", "tiles")
def _(board: Path) -> None:
    write_tiff(board / LOWER, slices("lower"), tile=(16, 16), compression="deflate")
    (board / LOWER).write_bytes(tag(322, 65_520)(tag(323, 65_520)((board / LOWER).read_bytes())))


@kind("image of another checksum", FileFault, "U1_lower.tif", "sha256")
def _(board: Path) -> None:
    seal(board)
    data = bytearray((board / LOWER).read_bytes())
    data[-1] ^= 1
    (board / LOWER).write_bytes(data)


@kind("images exchanged against their checksums", FileFault, "sha256")
def _(board: Path) -> None:
    seal(board)
    lower = (board / LOWER).read_bytes()
    (board / LOWER).write_bytes((board / UPPER).read_bytes())
    (board / UPPER).write_bytes(lower)


@kind("checksums in capitals", DECIDE)
def _(board: Path) -> None:
    seal(board)
    edit(board / "export.json", lambda d: [i.update(sha256=i["sha256"].upper()) for i in d["images"]])


@kind("map of integers without a scale", ImageFault, "U1_post_reflow.tif", "scale_um")
def _(board: Path) -> None:
    write_tiff(board / POST, np.nan_to_num(heights("post_reflow"))[None].astype(np.uint16))
    edit(board / "export.json", lambda d: d["images"][3].pop("scale_um"))


@kind("map of integers with a no_data that they cannot hold", ImageFault, "U1_post_reflow.tif", "no_data")
def _(board: Path) -> None:
    write_tiff(board / POST, np.nan_to_num(heights("post_reflow")).clip(0)[None].astype(np.uint16))
    edit(board / "export.json", lambda d: d["images"][3].update(no_data=-9999))


@kind("map of floats with a scale", ImageFault, "U1_post_reflow.tif", "scale_um")
def _(board: Path) -> None:
    edit(board / "export.json", lambda d: d["images"][3].update(scale_um=0.1))


@kind("map of integers, all of them none", ImageFault, "U1_post_reflow.tif", "no data")
def _(board: Path) -> None:
    write_tiff(board / POST, flat(1, (40, 40), np.uint16, 65535))
    edit(board / "export.json", lambda d: d["images"][3].update(no_data=65535))


def inflating(n_bytes: int) -> bytes:
    """A zlib stream that decompresses to this many zeros."""
    part = zlib.compressobj(9, wbits=-15)
    block = part.compress(bytes(1 << 20)) + part.flush(zlib.Z_FULL_FLUSH)
    return zlib.compress(b"")[:2] + block * (n_bytes >> 20) + b"\3\0\0\0\0\0"


def write_bomb(path: Path, strip: bytes, rows_px: int, strips: int = 1) -> None:
    """Five pages of 60 columns of uint16, each of `strips` strips that are all the same bytes."""
    head, chain = bytearray(b"II*\0\0\0\0\0"), 4
    at = len(head)
    head += strip
    offsets = len(head)
    head += struct.pack(f"<{strips}I", *[at] * strips) + struct.pack(f"<{strips}I", *[len(strip)] * strips)
    for _ in range(5):
        entries = [(256, 60), (257, rows_px), (258, 16), (259, 8), (262, 1), (273, offsets), (277, 1), (278, rows_px // strips)]
        entries += [(279, offsets + 4 * strips), (339, 1)]
        if strips == 1:
            entries = [(code, {273: at, 279: len(strip)}.get(code, value)) for code, value in entries]
        struct.pack_into("<I", head, chain, len(head))
        head += struct.pack("<H", len(entries))
        for code, value in entries:
            head += struct.pack("<HHII", code, 4, strips if code in (273, 279) else 1, value)
        chain = len(head)
        head += bytes(4)
    path.write_bytes(head)


assert len({k.name for k in KINDS}) == len(KINDS), "each kind has its own name"
assert joints("lower")[0] == ("A1", -600.0, 600.0), "the tables above name it"
