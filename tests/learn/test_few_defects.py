"""Boards to calibrate on that hold few defects are not reserved: all boards calibrate in turn."""

from pathlib import Path

import pytest

from inspect_pop.core.limits import Limits
from inspect_pop.evaluate.collect import CollectedSet
from inspect_pop.evaluate.label_book import LabelReport
from inspect_pop.learn import dataset
from inspect_pop.learn.dataset import TrainingConfig, TrainingRequest, gather_dataset, load_training_config
from tests.learn.sets import make_samples

TOP = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("joints", "is_reserved"), [(50, False), (200, True)])
def test_few_defects_on_the_boards_to_calibrate_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, joints: int, is_reserved: bool
) -> None:
    """Every fifth joint is a defect: two boards of 50 joints have 20, of 200 joints 80."""
    samples, labels = make_samples(12, joints), LabelReport(12, 12 * joints, {}, {}, {}, 0, (), (), (), ())
    monkeypatch.setattr(dataset, "_collect_once", lambda *_: CollectedSet(samples, labels, tmp_path))
    config = TrainingConfig(name="few", few_defects=50)
    split = gather_dataset(TrainingRequest((), tmp_path, config, None, None, (), Limits(), 1, lambda _: None)).split
    assert bool(split.calibrate) is is_reserved
    assert len(split.train) + len(split.calibrate) + len(split.golden) == 12
    assert load_training_config(TOP / "training" / "configs" / "retrain.toml").few_defects == 50
