"""Height maps from pictures with a scale, text and x3p."""

import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from inspect_pop.convert.map_file import ImageMap
from inspect_pop.convert.surfaces import take_heights
from inspect_pop.core.errors import FileFault, ImageFault

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


def test_without_the_library_a_file_of_another_kind_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "SurfaceTopography", None)
    (tmp_path / "a.sur").write_bytes(b"DIGITAL SURF")
    with pytest.raises(FileFault, match=r"inspect_pop\[formats\], which reads sur"):
        take(tmp_path / "a.sur")


def test_what_the_library_reads_is_turned_and_scaled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first axis is x, its second y, which is up; lengths are in its unit."""

    class Surface:
        unit, pixel_size = "nm", (2000.0, 2000.0)

        def heights(self) -> np.ndarray:
            return np.ma.masked_equal(HEIGHTS[::-1].T * 1000, HEIGHTS[2, 3] * 1000)

    library = types.SimpleNamespace(read_topography=lambda path: Surface())
    monkeypatch.setitem(sys.modules, "SurfaceTopography", library)
    (tmp_path / "a.sur").write_bytes(b"DIGITAL SURF")
    found = take(tmp_path / "a.sur", pixel_um=None).heights
    want = HEIGHTS.copy()
    want[2, 3] = np.nan
    assert np.allclose(found.height_um, want, atol=1e-3, equal_nan=True) and found.grid.pixel_um == 2.0

    def fail(path: str) -> None:
        raise ValueError("no such block")

    library.read_topography = fail
    with pytest.raises(FileFault, match="ValueError: no such block"):
        take(tmp_path / "a.sur")


def test_the_library_itself_reads_real_files(shared: Path) -> None:
    folder = shared / "formats" / "surface"
    for name in ("al3d-1.al3d", "sur-2.sur", "metropro-1.dat"):
        assert np.isfinite(take(folder / name, pixel_um=None).heights.height_um).any()
    for name in ("LICENSE.md", "test.gwy"):
        with pytest.raises(FileFault, match="a height map"):
            take(folder / name)
