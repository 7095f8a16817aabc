from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
from inspect_pop.core.errors import LimitsFault
from inspect_pop.learn.dataset import limit_weights, load_training_config
from tests.learn.sets import make_samples

CONFIGS = [Path(__file__).resolve().parents[2] / "training" / "configs" / f"{name}.toml" for name in ("retrain", "scratch")]
pytestmark = pytest.mark.training


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_committed_configurations_can_be_read(path: Path) -> None:
    config = load_training_config(path)
    assert config.name == path.stem
    assert config.digest != config.model_copy(update={"views": 17}).digest


@pytest.mark.parametrize(
    "text",
    [
        "views = 1",
        "name = 'a'\nviws = 1",
        "name = 'a'\n[fit]\nepochs = 0",
        "name = 'a'\n[augment]\nnoize = 1",
        "name = '../a'",
        "=",
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(LimitsFault, match="training configuration"):
        load_training_config(tmp_path / "r.toml")


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LimitsFault):
        load_training_config(tmp_path / "none.toml")


def test_no_joint_counts_more_than_four_times_in_the_loss() -> None:
    samples = make_samples(1, 4).replace(weight=np.array([1, 3, 4, 800], np.float32))
    assert limit_weights(samples).weight.tolist() == [1, 3, 4, 4]
