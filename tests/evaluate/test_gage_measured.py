import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from inspect_pop.core.errors import LabelsFault, UsageFault
from inspect_pop.evaluate.gage import errors_against_truth, gage_boards
from tests.learn.conftest import make_batch


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
    found = errors_against_truth([batch])
    assert set(found) == {"diameter_um", "volume_ratio"}
    assert found["diameter_um"].n == 80
    twice = shutil.copytree(batch, tmp_path / "moved")
    text = (twice / "truth.csv").read_text().replace(",260,", ",250,").replace(",0.9,", ",0.8,")
    (twice / "truth.csv").write_text(text)
    moved = errors_against_truth([twice])
    assert moved["diameter_um"].bias - found["diameter_um"].bias == pytest.approx(10)
    assert moved["volume_ratio"].bias - found["volume_ratio"].bias == pytest.approx(0.1)
    assert moved["diameter_um"].spread == pytest.approx(found["diameter_um"].spread)
    assert found["diameter_um"].p50 <= found["diameter_um"].p95


def test_without_truth_there_is_nothing_to_compare_with(batch: Path) -> None:
    with pytest.raises(LabelsFault, match=r"truth\.csv"):
        errors_against_truth([batch])
