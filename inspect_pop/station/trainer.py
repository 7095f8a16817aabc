"""Training from the station: `inspect-pop train --store` as a process of its own, at low priority, one at a time.

Its state is a file next to the store, so that a service that starts again finds it: a training that still runs is followed, one
that died with the service goes on from its last epoch. The station never imports torch. A new model is offered only if it passes
the gates and is better than the present one on the same golden boards; a person promotes it, and one call goes back.
"""

import importlib.util
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from inspect_pop.core.errors import BusyFault, ModelFault, PopError, StoreFault, UsageFault, describe_error
from inspect_pop.core.system import utc_now, write_text
from inspect_pop.station.contract import PYTHON, locate_setup_file

__all__ = ["ModelChange", "Trainer", "TrainingState", "find_missing_extra"]

SCHEMA = "inspect-pop-station-training/1"
LIMIT_S = 12 * 3600.0
LEAST_FREE_BYTES = 2 << 30
MAX_RESTARTS = 3
STOP_S = 5.0
_SHOWN_LINES, _READ_BYTES = 12, 16 << 10
_EXTRA = ("torch", "albumentations", "safetensors")
_EPOCH = re.compile(r"^epoch (\d+) of (\d+)")
_REMEDY = (
    "pip install 'inspect_pop[training]' for the service, or train on another machine with `inspect-pop train --store URL` "
    "and take the model by POST /v1/model."
)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelChange:
    """A model that a person promoted: its folder, the one before, by whom and when."""

    model: str
    previous: str
    by: str
    at: str


@dataclass(frozen=True)
class TrainingState:
    """The state of the training of one store.

    Attributes:
        state: `idle`, `running`, `offered` (better, and through its gates), `not better`, `refused` (by its gates), `failed`,
            `cancelled` or `promoted`.
        started_at, started_by, finished_at: When, and by whom.
        out: The new model's folder.
        previous: The model that it began with and is compared with.
        pid: The process; None while none runs.
        token: When the process began, as its system says, so that another process of that number is not taken for it.
        restarts: How often it went on after the service stopped.
        reason: Why it failed, or why the model is not offered.
        history: Promotions that were not taken back, oldest first.
    """

    state: str = "idle"
    started_at: str = ""
    started_by: str = ""
    finished_at: str = ""
    out: str = ""
    previous: str = ""
    pid: int | None = None
    token: str = ""
    restarts: int = 0
    reason: str = ""
    history: tuple[ModelChange, ...] = field(default=())


def find_missing_extra() -> str:
    """Return why this installation cannot train, in words with the remedy; empty if it can. Imports nothing."""
    missing = [name for name in _EXTRA if importlib.util.find_spec(name) is None]
    return f"the extra `training` is not installed ({', '.join(missing)} missing). {_REMEDY}" if missing else ""


class Trainer:
    """The trainings of one store.

    Args:
        store: The store, as `--store` names it.
        command: The beginning of the command line; for tests.
        limit_s: Seconds after which a training is ended.
    """

    def __init__(
        self,
        store: str,
        *,
        command: Sequence[str] = (*PYTHON, "-m", "inspect_pop", "train"),
        limit_s: float = LIMIT_S,
    ) -> None:
        file = locate_setup_file(store)
        self._folder = None if file is None else file.with_name(file.name.removesuffix(".station.json") + ".training")
        self._store, self._command, self._limit_s = store, tuple(command), limit_s
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def read_state(self) -> TrainingState:
        """Return the state now: what a process left is judged first.

        Raises:
            StoreFault: The state cannot be read or written.
        """
        with self._lock:
            return self._settle(self._load())

    def read_lines(self) -> list[str]:
        """Return the last lines that the training printed."""
        try:
            with (self._require_folder() / "log.txt").open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _READ_BYTES))
                return file.read().decode("utf-8", "replace").splitlines()[-_SHOWN_LINES:]
        except OSError:
            return []

    def read_report(self) -> dict[str, Any]:
        """Return the report of the last training that ended: figures, gates, learning curve; empty if there is none."""
        return _read_report(Path(self._load().out)) if self._load().out else {}

    def find_progress(self) -> float | None:
        """Return the share of the epochs of the present fit that is done, 0 to 1; None before the first."""
        found = [match for line in self.read_lines() if (match := _EPOCH.match(line))]
        return int(found[-1][1]) / int(found[-1][2]) if found else None

    def start(self, *, by: str, model: Path) -> TrainingState:
        """Start a training from the decisions in the store.

        Args:
            by: Who starts it.
            model: The model to begin with and to compare with.

        Raises:
            UsageFault: Nothing can be trained here: the extra is missing, or the disk is full.
            BusyFault: A training runs.
            StoreFault: The state cannot be written.
        """
        if missing := find_missing_extra():
            raise UsageFault("training", expected="the extra `training`", found=missing)
        with self._lock:
            state, folder = self._settle(self._load()), self._require_folder()
            if state.state == "running":
                raise BusyFault("training", expected="none that runs", found=f"one by {state.started_by}", remedy="Cancel it.")
            folder.mkdir(parents=True, exist_ok=True)
            if (free := shutil.disk_usage(folder).free) < LEAST_FREE_BYTES:
                raise UsageFault(str(folder), expected="2 GB of free space", found=f"{free / 1e9:.1f} GB")
            for old in folder.glob("model-*"):
                shutil.rmtree(old, ignore_errors=True)
            at = utc_now("seconds")
            out = folder / f"model-{''.join(c for c in at[:19] if c.isdigit())}"
            (folder / "log.txt").write_bytes(b"")
            state = TrainingState("running", at, by, out=str(out), previous=str(model), history=state.history)
            return self._launch(state)

    def go_on(self) -> None:
        """Go on with a training that died with an earlier service. Whatever prevents it is logged: the station judges boards."""
        try:
            with self._lock:
                state = self._load()
                if state.state != "running" or self._is_alive(state) or _is_complete(Path(state.out)):
                    return
                if state.restarts >= MAX_RESTARTS or find_missing_extra():
                    self._save(replace(state, state="failed", pid=None, reason="it ended with the service"))
                    return
                log.info("the training goes on", extra={"out": state.out})
                self._launch(replace(state, restarts=state.restarts + 1))
        except (PopError, OSError) as fault:
            log.error("the training does not go on", extra={"reason": str(fault)})

    def cancel(self) -> TrainingState:
        """End the training that runs; nothing changes where none does. Raises `StoreFault`."""
        with self._lock:
            state = self._settle(self._load())
            if state.state != "running":
                return state
            self._end(state)
            return self._save(replace(state, state="cancelled", pid=None, finished_at=utc_now("seconds")))

    def install(self, models: Path, *, by: str) -> ModelChange:
        """Copy the model that is offered into a folder of models, and make it the current one there.

        Raises:
            UsageFault: No model is offered.
            ModelFault: It cannot be copied or loaded; the current one stays.
        """
        from inspect_pop.evaluate.promotion import promote

        state = self.read_state()
        if state.state != "offered":
            raise UsageFault("training", expected="a model that is offered", found=state.reason or state.state)
        name, at = f"station-{Path(state.out).name.removeprefix('model-')}", utc_now("seconds")
        try:
            shutil.copytree(state.out, models / name, dirs_exist_ok=True)
        except OSError as error:
            remedy = "Start the service with --models-root DIR, a folder that it may write to."
            raise ModelFault(
                str(models), expected="a folder of models to write to", found=describe_error(error), remedy=remedy
            ) from error
        promote(models, name, at=at, reason=f"by {by}: better on its golden boards, through every gate")
        return ModelChange(str(models / name), state.previous, by, at)

    def note_promotion(self, change: ModelChange) -> TrainingState:
        """Keep a promotion, so that it can be taken back. Raises `StoreFault`."""
        with self._lock:
            state = self._load()
            return self._save(replace(state, state="promoted", history=(*state.history, change)))

    def find_last_change(self) -> ModelChange:
        """Return the promotion that a rollback would take back. Raises `UsageFault` if there is none."""
        history = self._load().history
        if not history:
            raise UsageFault("training", expected="a promotion to take back", found="none")
        return history[-1]

    def note_rollback(self, *, by: str) -> TrainingState:
        """Take back the last promotion, also in the folder of models where it is the current one. Raises `StoreFault`."""
        from inspect_pop.classify.model import read_pointer
        from inspect_pop.evaluate.promotion import promote, rollback

        with self._lock:
            state = self._load()
            *rest, last = state.history
            models, name, before = Path(last.model).parent, Path(last.model).name, Path(last.previous)
            pointer = read_pointer(models)
            if pointer is not None and pointer.current == name:
                note = {"at": utc_now("seconds"), "reason": f"by {by}, at the station"}
                if pointer.history[-1].previous is not None:
                    rollback(models, **note)
                elif before.parent == models:
                    promote(models, before.name, **note)
            return self._save(replace(state, state="idle", history=tuple(rest)))

    def _launch(self, state: TrainingState) -> TrainingState:
        """Start the process of a state, in a session of its own, and keep its number."""
        command = [*self._command, "--store", self._store, "--out", state.out, "--from", state.previous, "--jobs", "1"]
        nice = shutil.which("nice")
        command = [nice, "-n", "19", *command] if nice else command
        threads = str(max(1, (os.cpu_count() or 2) // 2))
        environment = dict(os.environ) | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
        with (self._require_folder() / "log.txt").open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        return self._save(replace(state, pid=self._process.pid, token=_read_start(self._process.pid)))

    def _settle(self, state: TrainingState) -> TrainingState:
        """Judge what a process that ended left behind; end one that takes too long."""
        if state.state != "running":
            return state
        if self._is_alive(state):
            age_s = time.time() - (self._require_folder() / "state.json").stat().st_mtime
            if age_s <= self._limit_s:
                return state
            self._end(state)
            return self._save(_finish(state, "failed", f"it took longer than {self._limit_s / 3600:.0f} h"))
        if not _is_complete(Path(state.out)):
            lines = self.read_lines()
            return self._save(_finish(state, "failed", lines[-1] if lines else "it ended without a word"))
        return self._save(_judge(state))

    def _is_alive(self, state: TrainingState) -> bool:
        if self._process is not None and self._process.pid == state.pid:
            return self._process.poll() is None
        return state.pid is not None and bool(state.token) and _read_start(state.pid) == state.token

    def _end(self, state: TrainingState) -> None:
        """End the training's process with all that it started."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(int(state.pid or 0), number) if state.pid else None
            except OSError:
                return
            end = time.monotonic() + STOP_S
            while time.monotonic() < end:
                if not self._is_alive(state):
                    return
                time.sleep(0.05)

    def _require_folder(self) -> Path:
        if self._folder is None:
            raise StoreFault("the station's trainings", expected="a home folder for them", found="none", remedy="Set HOME.")
        return self._folder

    def _load(self) -> TrainingState:
        try:
            values = json.loads((self._require_folder() / "state.json").read_text(encoding="utf-8"))
            if values.pop("schema") != SCHEMA:
                raise ValueError("another schema")
            history = tuple(ModelChange(**change) for change in values.pop("history"))
            return TrainingState(**values, history=history)
        except FileNotFoundError:
            return TrainingState()
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            where = str(self._require_folder() / "state.json")
            raise StoreFault(
                where, expected=SCHEMA, found=describe_error(error), remedy="Delete the file to begin anew."
            ) from error

    def _save(self, state: TrainingState) -> TrainingState:
        file = self._require_folder() / "state.json"
        try:
            write_text(file, json.dumps({"schema": SCHEMA, **asdict(state)}, indent=1), durable=True)
        except OSError as error:
            raise StoreFault(str(file), expected="a file that can be written", found=describe_error(error)) from error
        return state


def _judge(state: TrainingState) -> TrainingState:
    """Judge a complete training by its report: offered, refused by its gates, or not better."""
    report = _read_report(Path(state.out))
    stops = [f"{gate['name']}: {gate['explanation']}" for gate in report["gates"] if not gate["passed"]]
    if stops:
        return _finish(state, "refused", "; ".join(stops))
    comparison = report.get("comparison") or {}
    if not comparison.get("is_better"):
        verdict = comparison.get("verdict") or "there is no comparison"
        return _finish(state, "not better", f"not better than what you have, on the same golden boards: {verdict}")
    return _finish(state, "offered", "")


def _finish(state: TrainingState, outcome: str, reason: str) -> TrainingState:
    return replace(state, state=outcome, reason=reason, pid=None, finished_at=utc_now("seconds"))


def _is_complete(out: Path) -> bool:
    """Return whether a training ended: its report is among the files of its card."""
    try:
        card = json.loads((out / "card.json").read_text(encoding="utf-8"))
        return "report.json" in card["files"] and bool(card["metrics"])
    except (OSError, ValueError, LookupError):
        return False


def _read_report(out: Path) -> dict[str, Any]:
    try:
        report: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return report


def _read_start(pid: int) -> str:
    """Return when a process began, in ticks, by /proc; empty where there is none, and of one that ended unwaited for."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except (OSError, ValueError):
        return ""
    return "" if fields[0] == "Z" else fields[19]
