"""Height maps from pictures with a scale, text and x3p."""

import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from inspect_pop.convert.map_file import ImageMap
from inspect_pop.convert.surfaces import take_heights
from inspect_pop.core.errors import FileFault, ImageFault
from inspect_pop.ingest.files import BOUNDS

HEIGHTS = np.round(1000 + 50 * np.random.default_rng(0).random((20, 30)), 2)


def take(path: Path, **fields: Any) -> Any:
    image = ImageMap(kind="height_map", refdes="U1", stage="post_reflow", files="*", **{"pixel_um": 24.0} | fields)
    return take_heights([path], path.parent, image, "U1")


@pytest.mark.parametrize(
    ("separator", "decimal"), [(",", "."), (";", ","), (";", "."), ("\t", ","), ("\t", "."), (" ", "."), (" ", ",")]
)
def test_a_matrix_of_any_decimal_sign_is_read(tmp_path: Path, separator: str, decimal: str) -> None:
    rows = [separator.join(f"{v:.2f}".replace(".", decimal) for v in row) for row in HEIGHTS]
    rows[3] = rows[3].replace(f"{HEIGHTS[3, 4]:.2f}".replace(".", decimal), "NaN")
    (tmp_path / "a.csv").write_text("# heights\n" + "\n".join(rows) + "\n")
    found = take(tmp_path / "a.csv", unit="um").heights
    want = HEIGHTS.copy()
    want[3, 4] = np.nan
    assert np.allclose(found.height_um, want, equal_nan=True)


def test_a_picture_of_whole_numbers_needs_its_scale(tmp_path: Path) -> None:
    values = np.rint(HEIGHTS * 10).astype(np.uint16)
    values[:4] = 0
    cv2.imwrite(str(tmp_path / "a.png"), values)
    with pytest.raises(ImageFault, match="the scale of whole numbers"):
        take(tmp_path / "a.png")
    found = take(tmp_path / "a.png", scale_um=0.1, offset_um=5.0)
    assert np.isnan(found.heights.height_um[:4]).all()
    assert np.allclose(found.heights.height_um[4:], HEIGHTS[4:] + 5, atol=0.06)
    assert any("no_data: 0" in text for text in found.assumed)


def test_a_map_cut_short_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1.0,2.0,3.0\n" * 9 + "1.0,2.0\n")
    with pytest.raises(FileFault, match="3 numbers in each row"):
        take(tmp_path / "a.csv")


def test_a_map_without_the_size_of_its_pixels_is_asked_for_it(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1.0,2.0,3.0\n" * 9)
    with pytest.raises((ImageFault, FileFault)):
        take(tmp_path / "a.csv", pixel_um=None)


def write_x3p(
    path: Path, values: Any, steps: tuple[float, float] = (1e-5, 1e-5), head: str = "", encoding: str = "utf-8"
) -> None:
    """Write `values` (rows, cols) in um, the first row at y = 0, as ISO 25178-72 has it: y is up unless its steps go down."""
    axes = "".join(f"<C{axis}><Increment>{step}</Increment></C{axis}>" for axis, step in zip("XY", steps, strict=True))
    size = f"<MatrixDimension><SizeX>{values.shape[1]}</SizeX><SizeY>{values.shape[0]}</SizeY></MatrixDimension>"
    link = "<DataLink><PointDataLink>bindata/data.bin</PointDataLink></DataLink>"
    height = "<CZ><DataType>D</DataType><Increment>1</Increment></CZ>"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("main.xml", f"{head}<ISO>{axes}{height}{size}{link}</ISO>".encode(encoding))
        archive.writestr("bindata/data.bin", (values * 1e-6).astype("<f8").tobytes())


@pytest.mark.parametrize("steps", [(1e-5, 1e-5), (-1e-5, 1e-5), (1e-5, -1e-5), (-1e-5, -1e-5)])
def test_points_of_an_x3p_whose_steps_go_backwards_are_turned_round(tmp_path: Path, steps: tuple[float, float]) -> None:
    upright = np.random.default_rng(0).uniform(0, 100, (30, 40))
    stored = upright[:: 1 if steps[1] < 0 else -1, :: -1 if steps[0] < 0 else 1]
    write_x3p(tmp_path / "a.x3p", stored, steps)
    found = take(tmp_path / "a.x3p", pixel_um=None).heights
    assert np.allclose(found.height_um, upright, atol=1e-3)
    assert found.grid.pixel_um == pytest.approx(10)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_of_an_x3p_are_refused_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    head = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE a [<!ENTITY e "x">]>'
    write_x3p(tmp_path / "a.x3p", np.ones((30, 40)), head=head, encoding=encoding)
    with pytest.raises(FileFault, match="plain XML"):
        take(tmp_path / "a.x3p", pixel_um=None)


def test_surfaces_of_other_tools_are_read(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "SurfaceTopography", None)
    folder = shared / "formats" / "surface"
    assert take(folder / "testing.x3p", pixel_um=None).heights.height_um.size > 100
    assert take(folder / "x3p-2.x3p", pixel_um=None).heights.height_um.size > 100_000
    assert take(folder / "csafe-logo.x3p", pixel_um=None).heights.height_um.size > 100_000
    with pytest.raises(FileFault):
        take(folder / "metropro-1.dat")


def write_al3d(path: Path, values: Any, **changed: Any) -> None:
    """Write `values` (rows, cols) in m as Alicona's AL3D: records of 52 bytes, then rows of float32 padded to 8 bytes."""
    rows, cols = values.shape
    tags = {"Version": 1, "TagCount": 8, "Cols": cols, "Rows": rows, "NumberOfPlanes": 1, "DepthImageOffset": 0}
    tags |= {"PixelSizeXMeter": 1e-5, "PixelSizeYMeter": 1e-5, "InvalidPixelValue": 3e15, "TextureImageOffset": 0}
    tags |= {"IconOffset": 0, "TexturePtr": 0} | changed
    tags["TagCount"] = len(tags) - 2
    start = 17 + 52 * (len(tags) + 1)
    tags |= {"DepthImageOffset": start} | changed
    head = b"AliconaImaging\0\r\n"
    for name, value in tags.items():
        head += name.encode().ljust(20, b"\0") + str(value).encode().ljust(30, b"\0") + b"\r\n"
    lines = np.zeros((rows, (cols + 1) // 2 * 2), "<f4")
    lines[:, :cols] = values
    path.write_bytes(head.ljust(start, b"\0") + lines.tobytes())


def test_without_the_library_a_profilers_file_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "SurfaceTopography", None)
    (tmp_path / "a.sur").write_bytes(b"DIGITAL SURF")
    with pytest.raises(FileFault, match=r"inspect_pop\[formats\], which reads \.sur"):
        take(tmp_path / "a.sur")


def test_what_the_library_reads_is_turned_and_scaled(tmp_path: Path) -> None:
    """Its first axis is the column, its second the row, from the top (AL3D begins with the top row); lengths are in its unit."""
    path = tmp_path / "a.al3d"
    want = np.random.default_rng(0).uniform(0, 100, (30, 41))
    write_al3d(path, want * 1e-6)
    found = take(path, pixel_um=None).heights
    assert np.allclose(found.height_um, want, atol=1e-3) and found.grid.pixel_um == pytest.approx(10)
    want[2, 3] = np.nan
    write_al3d(path, np.nan_to_num(want * 1e-6, nan=3e15))
    assert np.allclose(take(path, pixel_um=None).heights.height_um, want, atol=1e-3, equal_nan=True)


def test_an_x3p_is_bounded_before_its_matrix_is_read(tmp_path: Path) -> None:
    write_x3p(tmp_path / "a.x3p", np.ones((30, 40)))
    with zipfile.ZipFile(tmp_path / "a.x3p") as archive:
        head, data = archive.read("main.xml").decode(), archive.read("bindata/data.bin")
    with zipfile.ZipFile(tmp_path / "a.x3p", "w") as archive:
        archive.writestr("main.xml", head.replace("<SizeX>40<", "<SizeX>60000<").replace("<SizeY>30<", "<SizeY>60000<"))
        archive.writestr("bindata/data.bin", data)
    with pytest.raises(ImageFault, match=r"pixels and .* bytes"):
        take(tmp_path / "a.x3p", pixel_um=None)


def test_a_profilers_file_is_bounded_before_its_heights_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.al3d"
    write_al3d(path, np.ones((30, 40)), Rows=60_000, Cols=60_000)
    with pytest.raises(ImageFault, match=r"pixels and .* bytes"):
        take(path)
    write_al3d(path, np.ones((30, 40)), Rows=31)
    with pytest.raises(FileFault, match="a height map"):
        take(path)
    monkeypatch.setattr("inspect_pop.convert.surfaces.BOUNDS", replace(BOUNDS, image_bytes=1000))
    with pytest.raises(FileFault, match="at most 1,000 bytes"):
        take(path)


def test_a_zip_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "a.plux", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("index.xml", b" " * 100_000)
    monkeypatch.setattr("inspect_pop.convert.surfaces.BOUNDS", replace(BOUNDS, decoded_bytes=50_000))
    with pytest.raises(FileFault, match="members of at most 50,000 bytes"):
        take(tmp_path / "a.plux")


@pytest.mark.parametrize("suffix", ["mat", "npy", "h5", "xlsx", "gwy", "md"])
def test_the_library_does_not_guess_by_content(tmp_path: Path, suffix: str) -> None:
    """An input of 20 bytes that it takes for a matrix of MATLAB made it reserve more memory than there is."""
    for path in (tmp_path / f"a.{suffix}", tmp_path / "a.dat", tmp_path / "a.sur"):
        path.write_bytes(bytes.fromhex("000000000001352f3400000000000000013b353b"))
        with pytest.raises(FileFault, match="a height map"):
            take(path)


def test_the_library_itself_reads_real_files(shared: Path) -> None:
    folder = shared / "formats" / "surface"
    for name in ("al3d-1.al3d", "sur-2.sur", "metropro-1.dat"):
        assert np.isfinite(take(folder / name, pixel_um=None).heights.height_um).any()
    for name in ("LICENSE.md", "test.gwy"):
        with pytest.raises(FileFault, match="a height map"):
            take(folder / name)
