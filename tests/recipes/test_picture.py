"""One picture from a file: its kinds, its pages, and what is refused before it is decoded."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from inspect_pop.core.errors import FileFault, ImageFault, UsageFault
from inspect_pop.recipes.from_image import read_picture

VALUES = np.arange(40 * 30, dtype=np.uint16).reshape(40, 30) * 40


@pytest.mark.parametrize("ending", [".png", ".bmp", ".jpg"])
def test_pictures_of_one_page(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"board{ending}"
    grey = (VALUES // 256).astype(np.uint8)
    cv2.imwrite(str(path), VALUES if ending == ".png" else grey)
    found = read_picture(path)
    assert found.shape == (40, 30)
    assert found == pytest.approx(VALUES if ending == ".png" else grey, abs=0 if ending != ".jpg" else 3)
    with pytest.raises(UsageFault, match="one page"):
        read_picture(path, 2)


def test_colours_become_grey(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.dstack([VALUES // 256] * 3).astype(np.uint8))
    assert read_picture(tmp_path / "a.png") == pytest.approx(VALUES // 256)


def test_the_middle_page_or_the_one_that_is_named(tmp_path: Path) -> None:
    path = tmp_path / "slices.tif"
    tifffile.imwrite(path, np.stack([VALUES + k for k in range(5)]), photometric="minisblack")
    assert (read_picture(path) == VALUES + 2).all()
    assert (read_picture(path, 5) == VALUES + 4).all()
    with pytest.raises(UsageFault, match="1 to 5"):
        read_picture(path, 6)


def test_a_picture_of_a_huge_declared_size_is_not_decoded(tmp_path: Path) -> None:
    _, data = cv2.imencode(".png", VALUES)
    huge = bytearray(data.tobytes())
    huge[16:24] = (60_000).to_bytes(4, "big") * 2
    (tmp_path / "bomb.png").write_bytes(huge)
    with pytest.raises(ImageFault, match="Nothing was read"):
        read_picture(tmp_path / "bomb.png")


def test_jpeg_within_a_tiff_is_read(tmp_path: Path) -> None:
    grey = (VALUES // 256).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", np.stack([grey, grey // 2]), photometric="minisblack", compression="jpeg")
    assert read_picture(tmp_path / "a.tif", 1) == pytest.approx(grey.astype(float), abs=6)
    assert read_picture(tmp_path / "a.tif") == pytest.approx((grey // 2).astype(float), abs=6)


def test_marks_in_colours_are_no_data(tmp_path: Path) -> None:
    picture = np.full((60, 60, 3), 90, np.uint8)
    picture[2:6, 2:20] = (0, 0, 255)
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    found = read_picture(tmp_path / "a.png")
    assert np.isnan(found[2:6, 2:20]).all() and (found[20:] == 90).all()


def test_damaged_pictures(tmp_path: Path) -> None:
    _, data = cv2.imencode(".png", VALUES)
    for name, content in (("cut.png", data.tobytes()[:100]), ("other.png", b"hello world"), ("cut.jpg", b"\xff\xd8\xff\xe0\0")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FileFault):
            read_picture(tmp_path / name)
