"""Thresholds that follow the machine: found once, stored with the run, named in the record."""

import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from inspect_pop import cli
from inspect_pop.batch import worker
from inspect_pop.batch.jobs import BatchSettings, BoardJob, run_in_process
from inspect_pop.batch.worker import defect_log_odds, find_first_boards, find_machine_points
from inspect_pop.core.classes import CLASSES
from inspect_pop.core.errors import StoreFault
from inspect_pop.core.limits import Limits
from tests.factories import make_inspection
from tests.learn.models import add_machine_model, make_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


def test_odds_are_those_of_a_defect_and_leave_out_what_was_not_decided() -> None:
    joints = make_inspection(defects={"U1.lower.A1": "open"}, undecided=["U1.lower.A2"]).joints
    odds = defect_log_odds(joints)
    assert len(odds) == len(joints) - 1
    assert odds[0] == pytest.approx(math.log(0.99 / 0.01), rel=1e-4)
    assert min(odds) == pytest.approx(math.log(0.04 / 0.96), rel=1e-4)


def test_odds_stay_finite_where_a_probability_is_rounded_to_nothing() -> None:
    joints = make_inspection().joints
    n = len(joints)
    sure = joints.replace(**{f"p_{c}": np.full(n, float(c == "open")) for c in CLASSES})
    assert np.isfinite(defect_log_odds(sure)).all()


def jobs(board: Path, n: int = 3) -> list[BoardJob]:
    return [BoardJob(i, board, board.parents[1]) for i in range(n)]


def settings(out: Path, model: Path, **more: object) -> BatchSettings:
    return BatchSettings(out, str(out / "records.db"), model, Limits(), follow_machines=True, **more)  # type: ignore[arg-type]


def test_first_boards_of_each_machine_are_enough(small_board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "JOINTS_PER_MACHINE", 100)  # the sample board has 88
    assert [j.order for j in find_first_boards(jobs(small_board, 5))] == [0, 1]


def test_thresholds_are_stored_for_a_resumed_run(small_board: Path, tmp_path: Path, model: Path) -> None:
    found = find_machine_points(jobs(small_board, 1), settings(tmp_path, model), run_in_process)
    assert [machine for machine, _ in found] == ["A/AXI-2"]
    assert find_machine_points([], settings(tmp_path, model), run_in_process) == found
    assert find_machine_points([], settings(tmp_path, model, resume=False), run_in_process) == ()


def test_a_machine_with_a_network_of_its_own_is_not_followed(small_board: Path, tmp_path: Path) -> None:
    own = add_machine_model(make_model(tmp_path / "m"), "A/AXI-2")
    assert find_machine_points(jobs(small_board, 1), settings(tmp_path, own), run_in_process) == ()


def test_a_board_that_cannot_be_used_says_nothing(small_board: Path, tmp_path: Path, model: Path) -> None:
    (small_board / "xray" / "U1_lower.tif").write_bytes(b"no TIFF")
    assert find_machine_points(jobs(small_board, 1), settings(tmp_path, model), run_in_process) == ()


def test_thresholds_that_cannot_be_stored_end_the_run(small_board: Path, tmp_path: Path, model: Path) -> None:
    (tmp_path / ".work").write_text("a file")
    with pytest.raises(StoreFault, match="repeat the same command"):
        find_machine_points(jobs(small_board, 1), settings(tmp_path, model), run_in_process)


def test_the_record_says_it(small_batch: Path, tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", good_scores=tuple(np.linspace(-12, -4, 101)))
    command = ["run", str(small_batch), "--out", str(tmp_path / "out"), "--model", str(model), "--jobs", "1", "--follow-machines"]
    assert cli.main(command) == 0
    (board,) = pq.read_table(tmp_path / "out" / "boards.parquet").to_pylist()
    assert "joints of this machine" in board["operating_point"] or "look good" in board["operating_point"]
