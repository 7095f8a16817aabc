"""The station's trainings: one at a time, followed over restarts, ended on request, offered only if better."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from inspect_pop.classify.model import read_pointer
from inspect_pop.core.errors import BusyFault, ModelFault, StoreFault, UsageFault
from inspect_pop.evaluate.promotion import promote
from inspect_pop.station import trainer as module
from inspect_pop.station.trainer import Trainer, TrainingState
from tests.learn.models import make_model

COMMAND = (sys.executable, str(Path(__file__).with_name("training.py")))


@pytest.fixture(autouse=True)
def _has_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_EXTRA", ())
    monkeypatch.setattr(module, "LEAST_FREE_BYTES", 0)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    make_model(tmp_path / "models" / "present")
    promote(tmp_path / "models", "present", at="2026-03-02T12:00:00+00:00", reason="first")
    return tmp_path / "models"


def make_trainer(folder: Path, **options: Any) -> Trainer:
    return Trainer(str(folder / "records.db"), command=COMMAND, **options)


def start(trainer: Trainer, models: Path, **wish: Any) -> TrainingState:
    (models / "wish.json").write_text(json.dumps(wish))
    return trainer.start(by="Ada", model=models / "present")


def wait(trainer: Trainer) -> TrainingState:
    for _ in range(600):
        state = trainer.read_state()
        if state.state != "running":
            return state
        time.sleep(0.05)
    raise AssertionError("the training does not end")


@pytest.mark.parametrize(
    ("wish", "outcome", "reason"),
    [
        ({"better": True}, "offered", ""),
        ({}, "not better", "not better than what you have, on the same golden boards: chance explains"),
        ({"better": True, "stops": True}, "refused", "escapes in all: 12 %"),
        ({"fails": True}, "failed", "no labelled boards"),
    ],
)
def test_only_a_better_model_through_its_gates_is_offered(
    tmp_path: Path, models: Path, wish: dict[str, Any], outcome: str, reason: str
) -> None:
    trainer = make_trainer(tmp_path)
    assert start(trainer, models, **wish).state == "running"
    state = wait(trainer)
    assert (state.state, state.started_by, state.pid) == (outcome, "Ada", None)
    assert reason in state.reason
    if outcome == "offered":
        assert trainer.read_report()["curve"]["summary"] == "4 boards leave 3 errors."
        return
    with pytest.raises(UsageFault, match="a model that is offered"):
        trainer.install(models, by="Ada")
    assert [p.name for p in models.iterdir() if p.is_dir()] == ["present"]


def test_one_training_at_a_time_and_a_cancelled_one_ends(tmp_path: Path, models: Path) -> None:
    trainer = make_trainer(tmp_path)
    state = start(trainer, models, seconds=60)
    with pytest.raises(BusyFault, match="one by Ada"):
        start(trainer, models)
    with pytest.raises(BusyFault):  # nor by another service on the store
        start(make_trainer(tmp_path), models, seconds=60)
    assert trainer.cancel().state == "cancelled"
    assert not is_alive(state.pid)
    assert trainer.cancel().state == "cancelled"
    assert start(trainer, models).state == "running"
    assert wait(trainer).state == "not better"


def is_alive(pid: int | None) -> bool:
    try:
        os.kill(int(pid or 0), 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_another_service_follows_a_training_that_still_runs(tmp_path: Path, models: Path) -> None:
    first = make_trainer(tmp_path)
    state = start(first, models, seconds=60)
    later = make_trainer(tmp_path)
    later.go_on()
    assert later.read_state() == state
    assert later.cancel().state == "cancelled"
    assert first._process is not None and first._process.wait(10) != 0


def test_a_training_that_died_with_its_service_goes_on(tmp_path: Path, models: Path) -> None:
    first = make_trainer(tmp_path)
    start(first, models, seconds=60, again={"better": True})
    while first.find_progress() is None:
        time.sleep(0.05)
    assert first.find_progress() == 0.25
    first._end(first.read_state())
    later = make_trainer(tmp_path)
    later.go_on()
    state = wait(later)
    assert (state.state, state.restarts) == ("offered", 1)


def test_a_training_that_dies_again_and_again_is_given_up(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RESTARTS", 0)
    first = make_trainer(tmp_path)
    start(first, models, seconds=60)
    first._end(first.read_state())
    make_trainer(tmp_path).go_on()
    assert make_trainer(tmp_path).read_state().reason == "it ended with the service"


def test_a_training_that_takes_too_long_is_ended(tmp_path: Path, models: Path) -> None:
    trainer = make_trainer(tmp_path, limit_s=-1)
    pid = start(trainer, models, seconds=60).pid
    assert wait(trainer).reason.startswith("it took longer")
    assert not is_alive(pid)


def test_promotion_and_the_way_back(tmp_path: Path, models: Path) -> None:
    trainer = make_trainer(tmp_path)
    start(trainer, models, better=True)
    wait(trainer)
    change = trainer.install(models, by="Ada")
    assert trainer.note_promotion(change).state == "promoted"
    pointer = read_pointer(models)
    assert pointer is not None and models / pointer.current == Path(change.model)
    assert "by Ada" in pointer.history[-1].reason
    assert trainer.find_last_change() == change
    assert make_trainer(tmp_path).note_rollback(by="Bo").history == ()
    pointer = read_pointer(models)
    assert pointer is not None and pointer.current == "present"
    with pytest.raises(UsageFault, match="a promotion to take back"):
        trainer.find_last_change()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, models: Path) -> None:
    trainer = make_trainer(tmp_path)
    start(trainer, models, better=True)
    wait(trainer)
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelFault, match="--models-root"):
        trainer.install(tmp_path / "file", by="Ada")


def test_without_the_extra_the_remedy_is_named(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_EXTRA", ("no_such_package",))
    with pytest.raises(UsageFault, match=r"no_such_package missing.*pip install 'inspect_pop\[training\]'"):
        start(make_trainer(tmp_path), models)


def test_a_full_disk_is_refused(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAST_FREE_BYTES", 1 << 62)
    with pytest.raises(UsageFault, match="2 GB of free space"):
        start(make_trainer(tmp_path), models)


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "records.db.training"
    trainer = make_trainer(tmp_path)
    assert trainer.read_state() == TrainingState()
    folder = next(iter(tmp_path.glob("*.training")), trainer._require_folder())
    folder.mkdir(exist_ok=True)
    (folder / "state.json").write_text("{}")
    with pytest.raises(StoreFault, match="Delete the file to begin anew"):
        trainer.read_state()
