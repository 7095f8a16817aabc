"""The peer that does the same job: it finds the package, fills the contract's columns, and keeps to the thresholds asked for."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("skimage")

from inspect_pop.core.columns import CLASSES, COLUMNS, KEY  # noqa: E402

pytestmark = pytest.mark.training
SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
# What the peer measures. A column that the product measures besides is no part of the job that both are timed at.
MEASURED = {"x_um", "y_um", "dx_um", "dy_um", "shear_x_um", "shear_y_um", "diameter_um", "diameter_low_um", "diameter_high_um"}
MEASURED |= {"waist", "roundness", "grey", "volume_ratio", "void_fraction", "standoff_um", "clearance_um", "dome_um"}
MEASURED |= {"z_low", "z_mid", "z_high"}


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """The measuring script; it brings the benchmark's folder along."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS / "bench"))
        patch.syspath_prepend(str(SCRIPTS / "studies"))
        yield import_module("measure_peer")


class Nothing(torch.nn.Module):
    """Says the same of every joint, so that a test need not wait for a network."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.shape[1:] == (5, 64, 64)
        return torch.zeros(len(images), len(CLASSES))


def test_a_sample_board_is_found_and_measured(script: ModuleType, small_board: Path) -> None:
    done = script.peer_job.inspect(small_board, Nothing(), True)
    joints = done.joints
    assert MEASURED.issubset(c.name for c in COLUMNS)
    assert {*KEY, *MEASURED, *(f"p_{c}" for c in CLASSES), "label", "verdict", "reason"} <= set(joints.columns)
    assert len(joints) == 88
    assert (joints["verdict"] == "fail").all()
    assert np.hypot(joints["dx_um"], joints["dy_um"]).median() < 15
    assert joints["diameter_um"].between(150, 400).mean() > 0.9
    assert joints["volume_ratio"].median() == pytest.approx(1.0, abs=0.35)
    assert 1200 < done.record["packages"][0]["stack_height_um"] < 1500
    assert not done.record["packages"][0]["turned"]


def test_a_file_that_was_changed_is_refused(script: ModuleType, small_board: Path) -> None:
    path = small_board / "xray" / "U1_lower.tif"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ValueError, match="not the file that was written"):
        script.peer_job.inspect(small_board, Nothing(), True)


def test_thresholds_call_as_many_good_joints_as_asked(script: ModuleType) -> None:
    odds = np.random.default_rng(0).normal(size=500)
    for called, failed in ((30, 7), (5, 0), (0, 0), (500, 500)):
        point = script.match_point(odds, called, failed)
        assert ((odds >= point.pass_below).sum(), (odds >= point.fail_above).sum()) == (called, failed)


def test_an_epoch_holds_every_defective_joint_and_its_share_of_good_ones(script: ModuleType) -> None:
    labels = np.r_[np.zeros(2000, int), np.arange(1, 5).repeat(100)]
    rows = script.batches(labels, np.random.default_rng(0))
    epoch = np.concatenate([next(rows) for _ in range(round(400 / (1 - script.GOOD_SHARE)) // script.BATCH)])
    assert len(set(epoch)) == len(epoch)
    assert (labels[epoch] == 0).mean() == pytest.approx(script.GOOD_SHARE, abs=0.03)


def test_the_learning_rate_rises_and_falls(script: ModuleType) -> None:
    rate = [script.one_cycle(used) for used in np.linspace(0, 1, 101)]
    assert np.argmax(rate) in (9, 10, 11)
    assert rate[0] < 0.02
    assert rate[-1] == pytest.approx(0, abs=1e-9)
