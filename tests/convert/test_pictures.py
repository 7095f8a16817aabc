"""Pictures of any layout; what is cut short, too large or not grey is refused before or after decoding."""

import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile

from inspect_pop.convert.pictures import open_pictures, read_picture
from inspect_pop.core.errors import FileFault, ImageFault
from inspect_pop.ingest.images import UPRIGHT

WIDE = np.random.default_rng(0).integers(0, 60000, (6, 40, 50), dtype=np.uint16)
NARROW = (WIDE >> 8).astype(np.uint8)


def read_all(*files: Path) -> Any:
    planes = open_pictures(list(files))
    return np.stack([planes.read_plane(k) for k in range(planes.count)])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zstd", "predictor": True},
        {"compression": "lzw", "tile": (16, 16)},
        {"byteorder": ">"},
        {"bigtiff": True},
        {"imagej": True},
        {"photometric": "miniswhite"},
    ],
)
def test_tiff_of_any_layout(tmp_path: Path, options: dict[str, Any]) -> None:
    tifffile.imwrite(tmp_path / "a.tif", WIDE, **({"photometric": "minisblack"} | options))
    assert np.array_equal(read_all(tmp_path / "a.tif"), WIDE)
    assert np.array_equal(open_pictures([tmp_path / "a.tif"]).read(2, range(1, 40, 3)), WIDE[2, 1:40:3])


@pytest.mark.parametrize("config", ["contig", "separate"])
def test_grey_in_colours_is_grey(tmp_path: Path, config: str) -> None:
    colours = np.stack([NARROW] * 3, axis=-1 if config == "contig" else 1)
    tifffile.imwrite(tmp_path / "a.tif", colours, photometric="rgb", planarconfig=config)
    assert np.array_equal(read_all(tmp_path / "a.tif"), NARROW)


@pytest.mark.parametrize(("suffix", "values"), [("png", WIDE), ("png", NARROW), ("bmp", NARROW), ("tif", WIDE)])
def test_one_file_a_plane(tmp_path: Path, suffix: str, values: Any) -> None:
    paths = [tmp_path / f"{k}.{suffix}" for k in range(6)]
    for path, page in zip(paths, values, strict=True):
        cv2.imwrite(str(path), page)
    assert np.array_equal(read_all(*paths), values)


def test_jpeg_alone_and_in_tiff(tmp_path: Path) -> None:
    smooth = cv2.GaussianBlur(NARROW[0], (0, 0), 3)
    cv2.imwrite(str(tmp_path / "a.jpg"), smooth, [cv2.IMWRITE_JPEG_QUALITY, 95])
    tifffile.imwrite(tmp_path / "a.tif", smooth, compression="jpeg", photometric="minisblack")
    for name in ("a.jpg", "a.tif"):
        assert np.abs(read_all(tmp_path / name)[0].astype(int) - smooth).max() <= 6


def add_exif(path: Path, block: bytes) -> None:
    """Put a block of Exif into a JPEG or PNG that has none."""
    data = path.read_bytes()
    if path.suffix == ".jpg":
        content = b"Exif\0\0" + block
        path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + data[2:])
    else:
        chunk = b"eXIf" + block
        path.write_bytes(data[:33] + struct.pack(">I", len(block)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:])


def make_exif(orientation: int, order: str = "<") -> bytes:
    start = b"II*\0" if order == "<" else b"MM\0*"
    return start + struct.pack(order + "IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("suffix", "order"), [("png", "<"), ("jpg", ">")])
def test_a_picture_is_turned_as_its_exif_says(tmp_path: Path, suffix: str, order: str, orientation: int) -> None:
    smooth = cv2.GaussianBlur(NARROW[0], (0, 0), 3)
    upright = tmp_path / f"upright.{suffix}"
    cv2.imwrite(str(upright), smooth)
    stored = tmp_path / f"stored.{suffix}"
    stored.write_bytes(upright.read_bytes())
    add_exif(stored, make_exif(orientation, order))
    expected = UPRIGHT[orientation](read_picture(upright))
    assert np.array_equal(read_picture(stored), expected)
    planes = open_pictures([stored])
    assert planes.shape == expected.shape
    assert np.array_equal(planes.read_plane(0), expected)


def test_an_orientation_that_exif_does_not_know_is_refused_and_a_damaged_block_is_none(tmp_path: Path) -> None:
    for name, block in {"a.png": make_exif(9), "b.png": make_exif(0), "c.png": b"II*\0\xff\xff\xff\x7f"}.items():
        cv2.imwrite(str(tmp_path / name), NARROW[0])
        add_exif(tmp_path / name, block)
    with pytest.raises(ImageFault, match="Orientation of 1 to 8"):
        read_picture(tmp_path / "a.png")
    for name in ("b.png", "c.png"):
        assert np.array_equal(read_picture(tmp_path / name), NARROW[0])


def test_marks_in_colour_become_no_data(tmp_path: Path) -> None:
    colours = np.stack([NARROW[0]] * 3, axis=-1)
    colours[5:8, 5:20] = (0, 255, 255)
    cv2.imwrite(str(tmp_path / "a.png"), colours)
    grey = read_picture(tmp_path / "a.png")
    assert np.isnan(grey[5:8, 5:20]).all()
    assert np.array_equal(grey[20:], NARROW[0][20:])


def test_a_colour_picture_is_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8))
    with pytest.raises(ImageFault, match="colours"):
        read_picture(tmp_path / "a.png")


@pytest.mark.parametrize("left_out", [0.33, 0.005])  # a third, and the last bytes alone
@pytest.mark.parametrize("suffix", ["png", "bmp", "jpg", "tif"])
def test_what_is_cut_short_is_refused(tmp_path: Path, suffix: str, left_out: float) -> None:
    path = tmp_path / f"a.{suffix}"
    cv2.imwrite(str(path), WIDE[0] if suffix in ("png", "tif") else NARROW[0])
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * (1 - left_out)) - 1])
    with pytest.raises(FileFault):
        read_all(path)


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )
    with pytest.raises(ImageFault, match="at most"):
        open_pictures([tmp_path / "a.png"])


@pytest.mark.parametrize("length", [0xFF00009B, 0x7FFFFFFF, 10_000])
def test_a_chunk_that_claims_more_than_the_file_holds_is_refused_undecoded(tmp_path: Path, monkeypatch, length: int) -> None:
    """OpenCV makes room for as many bytes as a chunk claims: 4 GB for a file of 200 bytes."""
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), NARROW[0])
    data = bytearray(path.read_bytes())
    at = data.index(b"IDAT") - 4
    data[at : at + 4] = struct.pack(">I", length)
    path.write_bytes(data)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    for read in (read_picture, lambda path: open_pictures([path])):
        with pytest.raises(FileFault, match="cut short or damaged"):
            read(path)


def test_the_orientation_behind_a_large_picture_is_found(tmp_path: Path) -> None:
    """The chunk eXIf may lie behind the pixels, further than the first megabyte."""
    path = tmp_path / "a.png"
    picture = np.random.default_rng(0).integers(0, 65535, (900, 1000), dtype=np.uint16)
    cv2.imwrite(str(path), picture)
    exif = make_exif(6)
    chunk = struct.pack(">I", len(exif)) + b"eXIf" + exif + struct.pack(">I", zlib.crc32(b"eXIf" + exif))
    data = path.read_bytes()
    assert len(data) > 1 << 20
    path.write_bytes(data[:-12] + chunk + data[-12:])
    planes = open_pictures([path])
    assert planes.shape == (1000, 900) and np.array_equal(planes.read_plane(0), np.rot90(picture, -1))


def test_a_jpeg_in_tiff_that_claims_to_be_larger_than_its_strip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, NARROW[0], compression="jpeg", photometric="minisblack")
    data = bytearray(path.read_bytes())
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 60000, 60000)
    path.write_bytes(bytes(data))
    with pytest.raises(ImageFault, match="60000 x 60000"):
        read_all(path)


def test_pictures_of_two_sizes_are_no_stack(tmp_path: Path) -> None:
    for name, page in (("a.png", WIDE[0]), ("b.png", WIDE[0, :30])):
        cv2.imwrite(str(tmp_path / name), page)
    with pytest.raises(ImageFault, match=r"as a\.png has"):
        open_pictures([tmp_path / "a.png", tmp_path / "b.png"])


def test_real_pictures_are_read(shared: Path) -> None:
    for name in ("good_image.jpg", "showSamples.png", "board/board_top_view.jpg"):
        assert read_picture(shared / "real" / name).ndim == 2
