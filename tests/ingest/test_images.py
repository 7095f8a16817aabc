"""What the pages of an image mean."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from inspect_pop.core.errors import ImageFault
from inspect_pop.ingest.images import read_heights, read_slices
from inspect_pop.ingest.manifest import HeightEntry, SliceEntry
from tests.ingest.boards import manifest, slices


def slice_entry(**changes: Any) -> SliceEntry:
    return SliceEntry.model_validate(manifest()["images"][0] | changes)


def height_entry(**changes: Any) -> HeightEntry:
    return HeightEntry.model_validate(manifest()["images"][3] | changes)


def stored(tmp_path: Path, values: np.ndarray) -> Path:
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack")
    return tmp_path / "a.tif"


def test_a_stack_carries_what_the_manifest_says_of_it(tmp_path: Path) -> None:
    stack = read_slices(slice_entry(polarity="solder_dark", method="ct"), stored(tmp_path, slices("lower")))
    np.testing.assert_array_equal(stack.values, slices("lower"))
    assert (stack.refdes, stack.interface, stack.polarity, stack.method, stack.lost) == ("U1", "lower", "solder_dark", "ct", ())
    assert stack.z_um == (5.0, 45.0, 85.0, 125.0, 165.0)
    assert (stack.grid.shape, stack.grid.pixel_um, stack.grid.origin_um) == ((60, 60), 50.0, (-1475.0, 1475.0))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_pages_of_one_value_are_lost(tmp_path: Path, dtype: str) -> None:
    values = (slices("lower") >> 8).astype(dtype)
    values[[1, 3]] = 0
    values[4] = 200
    stack = read_slices(slice_entry(), stored(tmp_path, values))
    assert stack.lost == (1, 3, 4)
    np.testing.assert_array_equal(stack.values, values)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pages_with_a_value_that_is_not_finite_are_lost(tmp_path: Path, value: float) -> None:
    values = slices("lower").astype(np.float32)
    values[2, 7, 9] = value
    assert read_slices(slice_entry(), stored(tmp_path, values)).lost == (2,)


def test_a_page_with_one_pixel_that_differs_is_a_picture(tmp_path: Path) -> None:
    values = np.zeros((5, 60, 60), np.uint16)
    values[range(5), 0, range(5)] = 1
    assert read_slices(slice_entry(), stored(tmp_path, values)).lost == ()


@pytest.mark.parametrize("place", [(0, 0), (7, 9)])
def test_one_slice_in_the_place_of_another_is_refused(tmp_path: Path, place: tuple[int, int]) -> None:
    values = slices("lower")
    values[3] = values[1]
    with pytest.raises(ImageFault, match="expected a picture of its own for each height, found pages 2 and 4 the same"):
        read_slices(slice_entry(), stored(tmp_path, values))
    values[(3, *place)] += 1
    assert read_slices(slice_entry(), stored(tmp_path, values)).lost == ()


def test_a_transmission_picture_has_one_page(tmp_path: Path) -> None:
    entry = slice_entry(method="transmission", z_um=[85.0])
    assert read_slices(entry, stored(tmp_path, slices("lower")[:1])).values.shape == (1, 60, 60)
    with pytest.raises(ImageFault, match="expected one page, found 2 or more"):
        read_slices(entry, stored(tmp_path, slices("lower")))


def test_float_heights_stand_as_they_are(tmp_path: Path) -> None:
    values = np.linspace(-20, 1400, 400, dtype=np.float32).reshape(20, 20)
    values[3, 4:7] = [np.nan, np.inf, -np.inf]
    read = read_heights(height_entry(), stored(tmp_path, values))
    assert (read.refdes, read.stage, read.height_um.dtype, read.grid.shape) == ("U1", "post_reflow", np.float32, (20, 20))
    assert np.isnan(read.height_um[3, 4:7]).all()
    keep = np.isfinite(values)
    np.testing.assert_array_equal(read.height_um[keep], values[keep])


def test_integer_heights_are_scaled(tmp_path: Path) -> None:
    values = np.arange(400, dtype=np.uint16).reshape(20, 20) * 160
    values[0, 0] = 65535
    read = read_heights(height_entry(scale_um=0.025, offset_um=-100.0, no_data=65535), stored(tmp_path, values))
    assert np.isnan(read.height_um[0, 0])
    assert np.isnan(read.height_um).sum() == 1
    np.testing.assert_allclose(read.height_um[1:], values[1:] * 0.025 - 100.0, atol=1e-3)  # 1 nm


def test_zero_may_mean_none(tmp_path: Path) -> None:
    values = np.array([[0, 100] * 8] * 16, np.uint16)
    read = read_heights(
        height_entry(scale_um=10.0, no_data=0), stored(tmp_path, np.where(values, values + np.arange(16, dtype=np.uint16), 0))
    )
    assert np.isnan(read.height_um).sum() == 128


def test_float_heights_may_have_a_number_for_none(tmp_path: Path) -> None:
    values = np.linspace(0, 1400, 400, dtype=np.float32).reshape(20, 20)
    values[5, 5] = -9999
    read = read_heights(height_entry(no_data=-9999), stored(tmp_path, values))
    assert np.isnan(read.height_um).sum() == 1


@pytest.mark.parametrize("changes", [{"scale_um": 0.5}, {"offset_um": 3.0}, {"scale_um": None, "offset_um": 3.0}])
def test_a_scale_beside_float_heights_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ImageFault, match="float32 heights in um"):
        read_heights(height_entry(**changes), stored(tmp_path, np.linspace(0, 1400, 400, dtype=np.float32).reshape(20, 20)))
