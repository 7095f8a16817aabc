"""Raw planes read by position: any rows of any plane, and nothing that the file does not hold."""

from pathlib import Path

import numpy as np
import pytest

from inspect_pop.convert import planes
from inspect_pop.convert.planes import RawLayout, check_plane, open_raw, simplify
from inspect_pop.core.errors import FileFault, ImageFault

VOLUME = np.random.default_rng(0).integers(0, 60000, (4, 20, 31), dtype=np.uint16)


def write(folder: Path, head: bytes = b"") -> Path:
    (folder / "a.raw").write_bytes(head + VOLUME.tobytes())
    return folder / "a.raw"


@pytest.mark.parametrize("gap_bytes", [0, 1 << 18])
@pytest.mark.parametrize("rows", [range(20), range(3, 7), range(1, 20, 4), range(0, 20, 19), range(19, 20)])
def test_any_rows_are_read(tmp_path: Path, rows: range, gap_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planes, "_GAP_BYTES", gap_bytes)
    found = open_raw(write(tmp_path, b"head"), RawLayout(4, (20, 31), np.dtype("<u2"), 4))
    assert np.array_equal(found.read(2, rows), VOLUME[2, rows.start : rows.stop : rows.step])


def test_a_file_that_is_cut_short_after_it_was_opened_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    found = open_raw(path, RawLayout(4, (20, 31), np.dtype("<u2")))
    path.write_bytes(path.read_bytes()[:-10])
    assert np.array_equal(found.read_plane(2), VOLUME[2])
    with pytest.raises(FileFault, match="the end of the file"):
        found.read_plane(3)


def test_values_are_scaled_by_slope_and_intercept(tmp_path: Path) -> None:
    found = open_raw(write(tmp_path), RawLayout(4, (20, 31), np.dtype("<u2"), slope=0.5, intercept=-10.0))
    assert found.read_plane(1) == pytest.approx(VOLUME[1] * 0.5 - 10)


@pytest.mark.parametrize(
    ("count", "shape", "what"),
    [(0, (50, 50), "1 to 20,000 planes"), (20_001, (50, 50), "planes"), (1, (2, 50), "sides of"), (1, (50, 10**6), "sides of")],
)
def test_planes_out_of_bounds_are_refused(count: int, shape: tuple[int, int], what: str) -> None:
    with pytest.raises(ImageFault, match=what):
        check_plane("a", count, shape, 2)


@pytest.mark.parametrize(
    ("given", "kept"),
    [("bool", "uint8"), ("int8", "int16"), ("uint8", "uint8"), (">u2", "uint16"), (">i2", "int16"), ("i4", "f4"), ("f8", "f4")],
)
def test_values_have_a_type_of_the_export_format(given: str, kept: str) -> None:
    found = simplify(np.array([0, 1], dtype=given))
    assert found.dtype == np.dtype(kept) and found.tolist() == [0, 1]
