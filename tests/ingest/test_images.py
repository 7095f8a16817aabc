"""Images of an export: what their pages mean, and how TIFF files are read, bounded and refused."""

import hashlib
import logging
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from inspect_pop.core.errors import FileFault, ImageFault
from inspect_pop.ingest.document import HeightEntry, SliceEntry
from inspect_pop.ingest.files import BOUNDS
from inspect_pop.ingest.images import read_heights, read_pages, read_slices
from tests.ingest.boards import manifest, slices
from tests.ingest.broken import tags_of

DTYPES = ("uint8", "uint16", "int16", "float32")
# TIFF 6.0, tag 274: the side of the picture that the first stored row shows, and the side that the first column shows.
ORIENTATIONS = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


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
def test_values_that_are_not_finite_are_no_data_and_lose_no_slice(tmp_path: Path, value: float) -> None:
    values = slices("lower").astype(np.float32)
    values[2, 7, 9] = values[:, :4, :4] = value
    stack = read_slices(slice_entry(), stored(tmp_path, values))
    assert stack.lost == ()
    np.testing.assert_array_equal(np.isnan(stack.values), ~np.isfinite(values) | (values != values))


@pytest.mark.parametrize("rest", [np.nan, 7.0])
def test_a_float_page_of_one_value_or_none_is_lost(tmp_path: Path, rest: float) -> None:
    values = slices("lower").astype(np.float32)
    values[2] = rest
    values[2, :9] = np.nan
    assert read_slices(slice_entry(), stored(tmp_path, values)).lost == (2,)


def test_one_slice_written_twice_is_seen_beside_pixels_without_data(tmp_path: Path) -> None:
    values = slices("lower").astype(np.float32)
    values[3] = values[1]
    values[:, 0, 0] = np.nan
    with pytest.raises(ImageFault, match="pages 2 and 4 equal"):
        read_slices(slice_entry(), stored(tmp_path, values))


def test_a_page_with_one_pixel_that_differs_is_a_picture(tmp_path: Path) -> None:
    values = np.zeros((5, 60, 60), np.uint16)
    values[range(5), 0, range(5)] = 1
    assert read_slices(slice_entry(), stored(tmp_path, values)).lost == ()


@pytest.mark.parametrize("place", [(0, 0), (7, 9)])
def test_one_slice_in_the_place_of_another_is_refused(tmp_path: Path, place: tuple[int, int]) -> None:
    values = slices("lower")
    values[3] = values[1]
    with pytest.raises(ImageFault, match="expected a different picture at each height, found pages 2 and 4 equal"):
        read_slices(slice_entry(), stored(tmp_path, values))
    values[(3, *place)] += 1
    assert read_slices(slice_entry(), stored(tmp_path, values)).lost == ()


def test_a_transmission_picture_has_one_page(tmp_path: Path) -> None:
    entry = slice_entry(method="transmission", z_um=[85.0])
    assert read_slices(entry, stored(tmp_path, slices("lower")[:1])).values.shape == (1, 60, 60)
    with pytest.raises(ImageFault, match="expected one page, found 2 or more"):
        read_slices(entry, stored(tmp_path, slices("lower")))


@pytest.mark.parametrize("pixel_um", [(30.0, 50.0), (50.0, 30.0), (24.0, 60.0), (50.0, 12.5)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_pixels_that_are_not_square_are_made_square(tmp_path: Path, pixel_um: tuple[float, float], dtype: str) -> None:
    """Grey that rises evenly is the same grey at the same place, in pixels of the shorter side."""
    rows, cols = 20, 30
    x_um, y_um = np.meshgrid(np.arange(cols) * pixel_um[0], -np.arange(rows) * pixel_um[1])
    values = np.round(100 + x_um / 20 + y_um / 20 + np.arange(5)[:, None, None]).astype(dtype)
    stack = read_slices(slice_entry(pixel_um=list(pixel_um)), stored(tmp_path, values))
    grid, side_um = stack.grid, min(pixel_um)
    assert (stack.values.dtype, grid.pixel_um, grid.origin_um) == (values.dtype, side_um, (-1475.0, 1475.0))
    assert grid.shape == (int((rows - 1) * pixel_um[1] / side_um) + 1, int((cols - 1) * pixel_um[0] / side_um) + 1)
    x_um, y_um = np.meshgrid(np.arange(grid.shape[1]) * side_um, -np.arange(grid.shape[0]) * side_um)
    wanted = 100 + x_um / 20 + y_um / 20 + np.arange(5)[:, None, None]
    assert np.abs(stack.values.astype(float) - wanted).max() <= 1.01  # half a grey of the pixels, half of those between


def test_heights_whose_pixels_are_not_square_keep_their_gaps(tmp_path: Path) -> None:
    """A line profiler: 10 um along the line, 25 um between lines; nothing is invented beside a pixel without data."""
    values = np.tile(np.arange(20, dtype=np.float32)[:, None], (1, 30))
    values[7, 9] = np.nan
    read = read_heights(height_entry(pixel_um=[10.0, 25.0]), stored(tmp_path, values))
    assert (read.grid.shape, read.grid.pixel_um) == ((48, 30), 10.0)
    np.testing.assert_allclose(read.height_um[:, 0], np.arange(48) * 0.4, atol=1e-5)
    gaps = np.zeros((48, 30), dtype=bool)
    gaps[16:20, 9] = True  # lines 6.4 to 7.6, and none that lies on a line with data
    np.testing.assert_array_equal(np.isnan(read.height_um), gaps)


def test_the_ends_of_the_scale_stay_where_pixels_are_made_square(tmp_path: Path) -> None:
    values = slices("lower")
    values[:, 20:30, 20:30] = 65535
    stack = read_slices(slice_entry(pixel_um=[50.0, 20.0]), stored(tmp_path, values))
    assert stack.values.shape == (5, 60, 148)
    assert (stack.values[:, 20:30, 50:73] == 65535).all()
    assert (stack.values == 65535).mean() < 0.03


@pytest.mark.parametrize("read", [read_slices, read_heights])
def test_square_pixels_are_bounded(tmp_path: Path, read: Any) -> None:
    entry = slice_entry(pixel_um=[50.0, 5.0]) if read is read_slices else height_entry(pixel_um=[50.0, 5.0])
    values = slices("lower") if read is read_slices else slices("lower")[0].astype(np.float32)
    bounds = replace(BOUNDS, image_pixels=9 * values.size)
    with pytest.raises(ImageFault, match=r"square pixels .* found .* pixels of 5 um"):
        read(entry, stored(tmp_path, values), bounds=bounds)


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


def test_heights_may_be_signed(tmp_path: Path) -> None:
    values = (np.arange(400, dtype=np.int16).reshape(20, 20) - 100) * 3
    values[0, 0] = -32768
    read = read_heights(height_entry(scale_um=0.5, no_data=-32768), stored(tmp_path, values))
    assert np.isnan(read.height_um).sum() == 1
    np.testing.assert_allclose(read.height_um[1:], values[1:] * 0.5)
    with pytest.raises(ImageFault, match="expected a no_data that int16 can hold, found 65535"):
        read_heights(height_entry(scale_um=0.5, no_data=65535), stored(tmp_path, values))


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


def pixels(dtype: str, n: int = 3, shape: tuple[int, int] = (37, 53)) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(5)
    return (
        rng.normal(1e3, 300, (n, *shape)).astype(dtype)
        if dtype == "float32"
        else rng.integers(0, np.iinfo(dtype).max, (n, *shape)).astype(dtype)
    )


def written(path: Path, values: np.ndarray[Any, Any], *, bigtiff: bool = False, byteorder: Any = None, **options: Any) -> Path:
    with tifffile.TiffWriter(path, bigtiff=bigtiff, byteorder=byteorder) as tif:
        for page in values:
            tif.write(page, contiguous=False, **({"photometric": "minisblack"} | options))
    return path


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bigtiff": True},
        {"rowsperstrip": 10},
        {"tile": (16, 32)},
        {"tile": (64, 64), "compression": "deflate"},
        {"compression": "deflate", "predictor": True, "rowsperstrip": 7},
        {"compression": "lzw", "predictor": True},
        {"compression": "zstd"},
        {"compression": "packbits"},
        {"photometric": "miniswhite"},  # polarity is the manifest's to tell
        {"description": "made by a machine", "software": "X-ray 7", "metadata": None},
        {"subfiletype": 2},
    ],
    ids=str,
)
def test_pixels_come_as_they_were_written(tmp_path: Path, dtype: str, byteorder: str, options: dict[str, Any]) -> None:
    values = pixels(dtype)
    read = read_pages(written(tmp_path / "a.tif", values, byteorder=byteorder, **options), 3, DTYPES)
    assert read.dtype == np.dtype(dtype)
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, values)


def store_turned(upright: np.ndarray, orientation: int) -> np.ndarray:
    """The stored page that shows `upright` under this orientation."""
    first_row, first_col = ORIENTATIONS[orientation]
    page = upright if first_row in ("top", "bottom") else upright.T
    page = page if first_row in ("top", "left") else page[::-1]
    return page if first_col in ("top", "left") else page[:, ::-1]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("options", [{}, {"tile": (16, 32)}, {"compression": "deflate", "predictor": True}], ids=str)
def test_a_page_is_turned_as_its_orientation_says(tmp_path: Path, orientation: int, options: dict[str, Any]) -> None:
    values = pixels("uint16")
    turned = np.stack([store_turned(page, orientation) for page in values])
    tag = [(274, "H", 1, orientation, True)]
    read = read_pages(written(tmp_path / "a.tif", turned, extratags=tag, **options), 3, DTYPES)
    np.testing.assert_array_equal(read, values)


def test_each_page_has_its_own_orientation(tmp_path: Path) -> None:
    values = pixels("uint8", 8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for page, orientation in zip(values, ORIENTATIONS, strict=True):
            tag = [(274, "H", 1, orientation, True)]
            tif.write(store_turned(page, orientation), contiguous=False, photometric="minisblack", extratags=tag)
    np.testing.assert_array_equal(read_pages(tmp_path / "a.tif", 8, DTYPES), values)


def test_a_height_map_is_turned_too(tmp_path: Path) -> None:
    values = np.linspace(0, 1400, 20 * 24, dtype=np.float32).reshape(20, 24)
    path = written(tmp_path / "a.tif", store_turned(values, 6)[None], extratags=[(274, "H", 1, 6, True)])
    read = read_heights(height_entry(), path)
    np.testing.assert_array_equal(read.height_um, values)
    assert read.grid.shape == (20, 24)


@pytest.mark.parametrize("tags", [[(274, "H", 1, 0, True)], [(274, "H", 1, 9, True)], [(274, "H", 2, (1, 1), True)]], ids=str)
def test_an_orientation_that_tiff_does_not_know_is_refused(tmp_path: Path, tags: list[Any]) -> None:
    with pytest.raises(ImageFault, match="page 1: expected one Orientation tag of 1 to 8, found"):
        read_pages(written(tmp_path / "a.tif", pixels("uint8"), extratags=tags), 3, DTYPES)


@pytest.mark.parametrize("mark", [{"subfiletype": 1}, {"extratags": [(255, "H", 1, 2, True)]}], ids=str)
@pytest.mark.parametrize("first", [True, False])
def test_a_reduced_picture_is_no_slice(tmp_path: Path, mark: dict[str, Any], first: bool) -> None:
    values = pixels("uint16")
    preview = np.full((9, 11), 200, np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for page in values:
            for picture, marks in [(preview, mark), (page, {})][:: 1 if first else -1]:
                tif.write(picture, contiguous=False, photometric="minisblack", metadata=None, **marks)
    np.testing.assert_array_equal(read_pages(tmp_path / "a.tif", 3, DTYPES), values)
    with pytest.raises(ImageFault, match=r"expected 2 pages, found 3 or more, and [23] marked as reduced"):
        read_pages(tmp_path / "a.tif", 2, DTYPES)
    with pytest.raises(ImageFault, match="expected 6 pages, found 3, and 3 marked as reduced"):
        read_pages(tmp_path / "a.tif", 6, DTYPES)


def test_a_mask_is_no_slice(tmp_path: Path) -> None:
    values = pixels("uint16", 4)
    data = bytearray(written(tmp_path / "a.tif", values, subfiletype=1).read_bytes())
    struct.pack_into("<I", data, tags_of(bytes(data))[254] + 8, 4)  # of the first page; the others stay reduced pictures
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(ImageFault, match="expected 3 pages, found 0, and 4 marked as reduced pictures or masks"):
        read_pages(tmp_path / "a.tif", 3, DTYPES)


@pytest.mark.parametrize("dtype", ["float64", "uint32", "int32", "int8", "float16"])
def test_a_type_that_is_not_taken_says_what_to_convert_to(tmp_path: Path, dtype: str) -> None:
    with pytest.raises(ImageFault, match=f"found {dtype}, .* bits. Convert the pixels to float32"):
        read_pages(written(tmp_path / "a.tif", pixels("uint8").astype(dtype)), 3, DTYPES)


def test_a_stack_written_at_once(tmp_path: Path) -> None:
    values = pixels("uint16", 5)
    for name, options in {"plain": {}, "imagej": {"imagej": True}, "ome": {"ome": True}}.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", values, photometric="minisblack", **options)
        np.testing.assert_array_equal(read_pages(tmp_path / f"{name}.tif", 5, DTYPES), values)


def test_the_name_of_the_file_does_not_matter(tmp_path: Path) -> None:
    values = pixels("uint8")
    for name in ("a.ndpi", "a.lsm", "a.svs", "a", "a.png"):
        np.testing.assert_array_equal(read_pages(written(tmp_path / name, values), 3, DTYPES), values)


def test_checksum(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tif", pixels("uint8"))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_pages(path, 3, DTYPES, digest.upper()).shape == (3, 37, 53)
    with pytest.raises(FileFault, match=f"expected sha256 {'0' * 64}, found {digest}"):
        read_pages(path, 3, DTYPES, "0" * 64)


@pytest.mark.parametrize(
    ("bound", "value", "fault"),
    [
        ("image_bytes", 1000, FileFault),
        ("image_pixels", 3 * 37 * 53 - 1, ImageFault),
        ("decoded_bytes", 2 * 3 * 37 * 53 - 1, ImageFault),
        ("image_side_px", 52, ImageFault),
        ("image_least_px", 38, ImageFault),
        ("image_tag_bytes", 3, FileFault),
        ("image_tags", 20, FileFault),
    ],
)
def test_each_bound_holds_before_anything_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, value: int, fault: type[Exception]
) -> None:
    path = written(tmp_path / "a.tif", pixels("uint16"))
    assert read_pages(path, 3, DTYPES, bounds=BOUNDS).shape == (3, 37, 53)
    monkeypatch.setattr(tifffile.TiffPage, "asarray", None)
    with pytest.raises(fault):
        read_pages(path, 3, DTYPES, bounds=replace(BOUNDS, **{bound: value}))


def test_a_dtype_that_is_not_asked_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageFault, match="page 1: expected pixels of float32, found uint16"):
        read_pages(written(tmp_path / "a.tif", pixels("uint16")), 3, ("float32",))


@pytest.mark.parametrize("cut", range(0, 5000, 97))
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, cut: int) -> None:
    path = written(tmp_path / "a.tif", pixels("uint8", 3, (20, 30)), compression="deflate")
    data = path.read_bytes()
    assert len(data) > 1900
    path.write_bytes(data[: min(cut, len(data) - 1)])
    with pytest.raises((FileFault, ImageFault), match=r"a\.tif"):
        read_pages(path, 3, DTYPES)


def test_what_tifffile_would_log_is_not_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = pixels("uint8")
    path = written(tmp_path / "a.tif", values, software="X-ray 7", metadata=None)
    data = bytearray(path.read_bytes())
    struct.pack_into("<H", data, tags_of(bytes(data))[305] + 2, 99)  # a type that TIFF does not know
    path.write_bytes(data)
    with caplog.at_level(logging.DEBUG):
        np.testing.assert_array_equal(read_pages(path, 3, DTYPES), values)
    assert caplog.records == []


@pytest.mark.parametrize("seed", range(4))
def test_damaged_bytes_give_a_declared_error_or_pixels(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    options = [
        {},
        {"compression": "deflate", "predictor": True},
        {"tile": (16, 16), "compression": "lzw"},
        {"compression": "zstd"},
    ][seed]
    good = written(tmp_path / "a.tif", pixels("uint16", 3, (20, 30)), **options).read_bytes()
    path = tmp_path / "b.tif"
    for _ in range(400):
        data = np.frombuffer(good, np.uint8).copy()
        at = rng.integers(0, len(data) if rng.random() < 0.5 else 400, rng.integers(1, 6))
        data[at] = rng.choice([0, 1, 2, 255, 127, 128, *rng.integers(0, 256, 4)], at.size)
        path.write_bytes(data.tobytes())
        try:
            assert read_pages(path, 3, DTYPES).ndim == 3
        except (FileFault, ImageFault) as fault:
            assert "b.tif" in fault.thing


def test_memory_that_runs_short_is_not_taken_for_a_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tifffile, "TiffFile", lambda *args, **kwargs: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(MemoryError):
        read_pages(written(tmp_path / "a.tif", pixels("uint8")), 3, DTYPES)
