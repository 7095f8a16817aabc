import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from inspect_pop.core.errors import LabelsFault, UsageFault
from inspect_pop.evaluate.gage import Reading, balance_readings, compute_gage, gage_boards, gage_columns, measure_errors
from tests.learn.conftest import make_batch

# The worked example of the manual: ten parts, three appraisers, three trials each (a trial a line).
MANUAL = np.array(
    [
        [
            [0.29, -0.56, 1.34, 0.47, -0.80, 0.02, 0.59, -0.31, 2.26, -1.36],
            [0.41, -0.68, 1.17, 0.50, -0.92, -0.11, 0.75, -0.20, 1.99, -1.25],
            [0.64, -0.58, 1.27, 0.64, -0.84, -0.21, 0.66, -0.17, 2.01, -1.31],
        ],
        [
            [0.08, -0.47, 1.19, 0.01, -0.56, -0.20, 0.47, -0.63, 1.80, -1.68],
            [0.25, -1.22, 0.94, 1.03, -1.20, 0.22, 0.55, 0.08, 2.12, -1.62],
            [0.07, -0.68, 1.34, 0.20, -1.28, 0.06, 0.83, -0.34, 2.19, -1.50],
        ],
        [
            [0.04, -1.38, 0.88, 0.14, -1.46, -0.29, 0.02, -0.46, 1.77, -1.49],
            [-0.11, -1.13, 1.09, 0.20, -1.07, -0.67, 0.01, -0.56, 1.45, -1.77],
            [-0.15, -0.96, 0.67, 0.11, -1.45, -0.49, 0.21, -0.49, 1.87, -2.16],
        ],
    ]
).transpose(2, 0, 1)


def test_the_manual_s_example() -> None:
    found = compute_gage(MANUAL)
    assert (found.parts, found.machines, found.repeats, found.pooled) == (10, 3, 3, True)
    assert found.repeatability == pytest.approx(0.199933, abs=1e-5)
    assert found.reproducibility == pytest.approx(0.226838, abs=1e-5)
    assert found.interaction == 0
    assert found.grr == pytest.approx(0.302373, abs=1e-5)
    assert found.part == pytest.approx(1.042327, abs=1e-5)
    assert found.total == pytest.approx(1.085, abs=1e-3)
    assert found.percent_grr == pytest.approx(27.9, abs=0.05)
    assert found.ndc == 4
    assert found.judgement == "usable where the application allows it"


def test_two_parts_two_machines_two_readings_by_hand() -> None:
    """Part means 1 and 5, machines 0.5 apart everywhere, readings 0.2 apart.

    SS error 4 * 2 * 0.1^2 = 0.08 over 4; interaction 0, pooled: 0.08 / 5 = 0.016. SS machines 8 * 0.25^2 = 0.5,
    less 0.016 over 4: 0.121. SS parts 8 * 2^2 = 32, less 0.016 over 4: 7.996.
    """
    values = np.array([[[0.65, 0.85], [1.15, 1.35]], [[4.65, 4.85], [5.15, 5.35]]])
    found = compute_gage(values)
    assert found.repeatability**2 == pytest.approx(0.016)
    assert found.reproducibility**2 == pytest.approx(0.121)
    assert found.part**2 == pytest.approx(7.996)
    assert found.percent_grr == pytest.approx(100 * np.sqrt(0.137 / 8.133))
    assert found.ndc == 10


def test_machines_that_disagree_about_parts_show_an_interaction() -> None:
    rng = np.random.default_rng(0)
    cross = rng.normal(0, 1.0, (60, 3, 1))
    values = rng.normal(0, 5, (60, 1, 1)) + cross + rng.normal(0, 0.3, (60, 3, 4))
    found = compute_gage(values)
    assert not found.pooled
    assert found.interaction == pytest.approx(1.0, rel=0.15)
    assert found.repeatability == pytest.approx(0.3, rel=0.1)
    assert found.part == pytest.approx(5, rel=0.3)
    assert found.reproducibility >= found.interaction


def test_one_machine_has_no_reproducibility() -> None:
    rng = np.random.default_rng(0)
    found = compute_gage(rng.normal(0, 3, (200, 1, 1)) + rng.normal(0, 0.5, (200, 1, 5)))
    assert np.isnan(found.reproducibility)
    assert found.repeatability == pytest.approx(0.5, rel=0.1)
    assert found.part == pytest.approx(3, rel=0.15)
    assert found.to_dict()["reproducibility"] is None
    json.dumps(found.to_dict(), allow_nan=False)


def test_one_reading_a_machine_leaves_their_difference() -> None:
    rng = np.random.default_rng(0)
    found = compute_gage(rng.normal(0, 3, (200, 1, 1)) + np.array([0, 1.0])[None, :, None] + rng.normal(0, 0.5, (200, 2, 1)))
    assert found.pooled
    assert found.repeatability == pytest.approx(0.5, rel=0.15)
    assert found.reproducibility == pytest.approx(np.sqrt(0.5), rel=0.15)


def test_a_measurement_that_never_moves_cannot_be_judged() -> None:
    found = compute_gage(np.full((5, 2, 2), 7.0))
    assert np.isnan(found.percent_grr)
    assert found.judgement == "unknown"


@pytest.mark.parametrize("shape", [(1, 3, 3), (10, 1, 1), (0, 2, 0)])
def test_nothing_that_repeats_is_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(UsageFault, match="Inspect the same boards again"):
        compute_gage(np.zeros(shape))


@given(shift=st.floats(-1e3, 1e3), scale=st.floats(1e-2, 1e2))
def test_another_unit_changes_no_share(shift: float, scale: float) -> None:
    found = compute_gage(MANUAL * scale + shift)
    assert found.percent_grr == pytest.approx(compute_gage(MANUAL).percent_grr, rel=1e-4)
    assert found.grr == pytest.approx(scale * compute_gage(MANUAL).grr, rel=1e-4)


def test_readings_that_do_not_fit_together_are_left_out() -> None:
    readings = [Reading(p, m, v) for p in "abc" for m in "XY" for v in (1.0, 2.0)]
    readings += [Reading("a", "X", 9.0), Reading("d", "X", 1.0), Reading("e", "X", float("nan"))]
    values, left_out = balance_readings(readings)
    assert values.shape == (3, 2, 2)
    assert left_out == 2
    assert values.max() == 2.0


def test_many_parts_read_once_count_more_than_few_read_twice() -> None:
    once = [Reading(f"p{k}", m, k) for k in range(10) for m in "XY"]
    values, left_out = balance_readings([*once, Reading("p0", "X", 0.5), Reading("p0", "Y", 0.5)])
    assert (values.shape, left_out) == ((10, 2, 1), 0)


def test_columns_without_values_are_left_out() -> None:
    good = [Reading(p, m, float(v)) for p in "abc" for m in "XY" for v in (1, 2)]
    found = gage_columns({"diameter_um": good, "standoff_um": [Reading("a", "X", float("nan"))]})
    assert list(found) == ["diameter_um"]


def repeated(folder: Path, scans: list[tuple[str, float]], grain: float = 40.0) -> Path:
    """Two boards, scanned once for each (line, brightness): the same pictures with fresh grain, at another minute."""
    rng = np.random.default_rng(0)
    for k, (line, gain) in enumerate(scans):
        batch = make_batch(folder / f"scan{k}", ["PB-1", "PB-2"], line=line)
        for manifest in batch.glob("boards/*/export.json"):
            about = json.loads(manifest.read_text()) | {"inspected_at": f"2026-11-22T08:{k:02d}:00+01:00"}
            for image in about["images"]:
                image.pop("sha256", None)
                if image["kind"] == "xray_slices":
                    path = manifest.parent / image["file"]
                    pixels = tifffile.imread(path)
                    noisy = pixels * gain + rng.normal(0, grain, pixels.shape)
                    tifffile.imwrite(path, np.clip(noisy, 0, 65535).astype(pixels.dtype))
            manifest.write_text(json.dumps(about))
    return folder


def test_repeated_scans_on_two_machines(tmp_path: Path) -> None:
    folder = repeated(tmp_path / "all", [("A", 1.0), ("A", 1.0), ("B", 0.9), ("B", 0.9)])
    report = gage_boards([folder], processes=1)
    assert report.machines == ("A/AXI-2", "B/AXI-2")
    assert report.exports == {"PB-1": 4, "PB-2": 4}
    diameter = report.columns["diameter_um"]
    assert (diameter.machines, diameter.repeats) == (2, 2)
    assert diameter.parts > 150
    assert 0 < diameter.repeatability < 6
    assert diameter.reproducibility < 6
    assert diameter.ndc >= 2
    text = "\n".join(report.lines())
    assert "8 exports of 2 boards, 2 machines" in text and "diameter_um" in text
    json.dumps(report.to_dict(), allow_nan=False)


def test_one_scan_is_not_enough(batch: Path) -> None:
    with pytest.raises(UsageFault, match="Inspect the same boards again"):
        gage_boards([batch], columns=["diameter_um"])


def test_a_copy_of_an_export_is_no_second_measurement(tmp_path: Path) -> None:
    folder = repeated(tmp_path / "all", [("A", 1.0), ("A", 1.0)])
    shutil.copytree(folder / "scan1", folder / "copy")
    report = gage_boards([folder], columns=["diameter_um"])
    assert report.exports == {"PB-1": 2, "PB-2": 2}
    assert [why for _, why in report.put_aside] == ["a copy of another export, which is no second measurement"] * 2
    shutil.rmtree(folder / "scan0")
    with pytest.raises(UsageFault, match="copies of an export do not count"):
        gage_boards([folder], columns=["diameter_um"])


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    folder = repeated(tmp_path / "all", [("A", 1.0), ("A", 1.0), ("A", 1.0)])
    (folder / "scan2" / "boards" / "PB-1" / "export.json").write_text("{")
    report = gage_boards([folder], columns=["diameter_um"])
    assert report.exports == {"PB-1": 2, "PB-2": 3}
    assert report.columns["diameter_um"].repeats == 2
    assert len(report.put_aside) == 1
    assert "put aside" in report.lines()[-1]


def test_readings_count_in_the_order_of_their_time(tmp_path: Path) -> None:
    """Three scans on A, two on B: the third on A is left out, however the folders are called."""
    folder = repeated(tmp_path / "all", [("A", 1.0), ("B", 1.0), ("B", 1.0), ("A", 1.0), ("A", 0.7)], grain=300)
    first = gage_boards([folder], columns=["diameter_um"]).columns
    (folder / "scan4").rename(folder / "a-scan")
    assert gage_boards([folder], columns=["diameter_um"]).columns == first


def test_bias_and_spread_against_truth(tmp_path: Path) -> None:
    """Truth that is 10 um and 0.1 off everywhere: bias says so, the spread is zero where the truth is the measurement's own."""
    batch = make_batch(tmp_path / "batch", ["PB-1"])
    head = "serial,refdes,interface,ball,label,variety,volume_ratio,web_um,gap_um,diameter_mid_um,standoff_um"
    rows = [",".join([*line.split(",")[:5], "plain", "0.9", "", "", "260", ""]) for line in
            (batch / "labels.csv").read_text().splitlines()[1:]]  # fmt: skip
    (batch / "truth.csv").write_text("\n".join([head, *rows]))
    found = measure_errors([batch])
    assert set(found) == {"diameter_um", "volume_ratio"}
    assert found["diameter_um"].n == 80
    twice = shutil.copytree(batch, tmp_path / "moved")
    text = (twice / "truth.csv").read_text().replace(",260,", ",250,").replace(",0.9,", ",0.8,")
    (twice / "truth.csv").write_text(text)
    moved = measure_errors([twice])
    assert moved["diameter_um"].bias - found["diameter_um"].bias == pytest.approx(10)
    assert moved["volume_ratio"].bias - found["volume_ratio"].bias == pytest.approx(0.1)
    assert moved["diameter_um"].spread == pytest.approx(found["diameter_um"].spread)
    assert found["diameter_um"].p50 <= found["diameter_um"].p95


def test_without_truth_there_is_nothing_to_compare_with(batch: Path) -> None:
    with pytest.raises(LabelsFault, match=r"truth\.csv"):
        measure_errors([batch])
