from pathlib import Path

import numpy as np
import pytest

from inspect_pop.classify.model import load
from inspect_pop.classify.session import log_odds
from inspect_pop.errors import UsageFault
from inspect_pop.learn.folder import read_calibration, seal, write_calibration
from inspect_pop.learn.outcomes import judge
from tests.learn.models import make_model
from tests.learn.sets import make_samples
from tests.learn.test_outcomes import make_outcomes


def test_calibration_joints_come_back(tmp_path: Path) -> None:
    samples = make_samples(3, 10)
    logits = np.random.default_rng(0).normal(0, 3, (30, 5)).astype(np.float32)
    write_calibration(samples, logits, tmp_path / "calibration.parquet")
    back, label, serial = read_calibration(tmp_path / "calibration.parquet")
    np.testing.assert_array_equal(back, logits)
    np.testing.assert_array_equal(label, samples.label)
    assert serial.tolist() == samples.serials.tolist()
    assert log_odds(back).shape == (30,)


def test_a_sealed_folder_can_be_loaded_and_its_page_read(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m")
    data = {"training boards": [f"B{k}" for k in range(9)], "labels": {"good": 7}}
    card = load(folder).card.model_copy(update={"metrics": judge(make_outcomes()), "data": data, "measured_on": "two boards"})
    sealed = seal(folder, card)
    assert set(sealed.files) == {"model.onnx", "calibration.parquet", "README.md"}
    assert load(folder).card == sealed
    page = (folder / "README.md").read_text()
    assert page.startswith("# m 1")
    assert "training boards: 9 (B0, B1, B2, B3, B4, …)" in page
    assert "Judged on two boards" in page and "defects that pass" in page
    assert "by hand" in page


def test_a_folder_without_a_network_is_not_sealed(tmp_path: Path) -> None:
    card = load(make_model(tmp_path / "m")).card
    with pytest.raises(UsageFault, match=r"model\.onnx"):
        seal(tmp_path, card)
