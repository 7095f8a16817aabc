"""What a run makes of a machine whose pictures are unlike all that were learnt: review, until it is qualified."""

from pathlib import Path

import pytest

from inspect_pop.batch import BatchSettings, local_executor, run_batch
from inspect_pop.batch.jobs import choose_limits
from inspect_pop.classify.model import LearntPicture, load
from inspect_pop.core.limits import Limits
from inspect_pop.store import Qualification, StoredBoard, open_store
from tests.learn.models import make_model

STRANGE = LearntPicture(machine="A/1", method="laminography", source="a test", low={"sharpness": 4.0}, high={"sharpness": 5.0})
STRICT, RELAXED = Limits(unlike_forbids=1.0), Limits(unlike_forbids=0.0)


def test_a_qualified_machine_is_decided_by_relaxed_limits_and_no_other() -> None:
    qualified = [("A/1", "model", STRICT.digest)]
    assert choose_limits(STRICT, qualified, "A/1", "model") == RELAXED
    assert choose_limits(STRICT, (), "A/1", "model") == STRICT
    assert choose_limits(STRICT, qualified, "A/2", "model") == STRICT
    assert choose_limits(STRICT, qualified, "A/1", "another") == STRICT
    stricter = Limits(unlike_forbids=1.0, void_fraction=0.1)
    assert choose_limits(stricter, qualified, "A/1", "model") == stricter


def test_an_unlike_picture_passes_nothing_until_its_machine_is_qualified(small_batch: Path, tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", pictures=[STRANGE.model_dump()])
    url = str(tmp_path / "r.db")

    def inspect(out: str) -> StoredBoard:
        settings = BatchSettings(tmp_path / out, url, model, STRICT, pages="none")
        run_batch([small_batch], settings, executor=local_executor(1))
        with open_store(url) as store:
            return store.board("PB2411-010204")[-1]

    before = inspect("one").board
    assert (before.verdict, before.n_review, before.limits_digest) == ("review", before.n_joints, STRICT.digest)
    assert before.unlike
    with open_store(url) as store:
        digests, at = (STRICT.digest, RELAXED.digest), "2026-03-02T08:00:00+00:00"
        store.add_qualification(Qualification("A/AXI-2", load(model).digest, "ipc-a-610", digests, True, "Ada", at, ()))
    after = inspect("two").board
    assert after.n_review < after.n_joints
    assert (after.unlike, after.limits_digest) == (before.unlike, RELAXED.digest)
    assert after.record != before.record


@pytest.mark.parametrize("passed", [True, False])
def test_the_inspecting_process_of_the_station_does_the_same(small_board: Path, tmp_path: Path, passed: bool) -> None:
    from inspect_pop.station.contract import JudgingOptions
    from inspect_pop.station.worker import load_inspector

    model = make_model(tmp_path / "model", pictures=[STRANGE.model_dump()])
    qualified = [["A/AXI-2", load(model).digest, STRICT.digest]] if passed else None
    (tmp_path / "limits.toml").write_text("unlike_forbids = 1")
    options = JudgingOptions(model=str(model), limits=str(tmp_path / "limits.toml"), qualified=qualified)
    inspect, rules = load_inspector(options)
    inspection, _ = inspect(small_board, small_board.parents[1])
    assert rules.limits == STRICT.digest
    assert inspection.board.unlike
    assert (inspection.board.n_review == inspection.board.n_joints) is not passed
