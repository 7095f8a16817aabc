"""What is done after the answer costs no verdict."""

import errno
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from inspect_pop.core.errors import InputFault, StoreFault
from inspect_pop.core.inspection import Inspection
from inspect_pop.station.worker import InspectionHandler
from inspect_pop.verify.windows import ExportPlace, WindowSet
from tests.factories import make_inspection
from tests.verify.boards import make_seen_board


class Untidy:
    """A ledger that keeps everything and cannot be tidied."""

    def __init__(self) -> None:
        self.entries: list[Any] = []

    def record(self, inspection: Inspection) -> None:
        self.entries.append(inspection.board.serial)

    def quarantine(self, name: str, fault: InputFault, serial: str | None = None, content: str | None = None) -> None:
        self.entries.append(f"{name}: {fault}")

    def tidy(self) -> None:
        raise StoreFault("records.db", found="disk I/O error")

    def count_sample(self) -> int:
        return 2

    def keep_windows(self, windows: WindowSet) -> None:
        self.entries.append(windows)
        raise StoreFault("records-files", found="no room")


def test_a_store_that_cannot_be_tidied_costs_no_verdict(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ledger = Untidy()
    handler = InspectionHandler(lambda path, _: (make_inspection(path.name), None), "model", ledger, pages=None)
    reply = handler.handle({"kind": "inspect", "path": str(tmp_path / "S"), "root": str(tmp_path)})
    handler.finish()
    assert (reply["status"], ledger.entries) == (200, ["S"])
    assert set(reply["ms"]) == {"inspect", "record"}
    assert "not tidied" in caplog.text


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("can't start new thread"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        ImportError("libfoo.so: cannot allocate memory in static TLS block"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_memory_that_runs_short_is_said_whoever_runs_short(tmp_path: Path, error: Exception) -> None:
    def run_short(path: Path, root: Path) -> tuple[Inspection, None]:
        raise error

    ledger = Untidy()
    handler = InspectionHandler(run_short, "model", ledger, pages=None)
    reply = handler.handle({"kind": "inspect", "path": str(tmp_path / "S"), "root": str(tmp_path)})
    assert (reply["status"], reply["answer"]["verdict"], handler.is_spent) == (422, "error", True)
    assert "memory" in reply["answer"]["reason"] and len(ledger.entries) == 1


def test_another_error_of_a_library_is_not_taken_for_it(tmp_path: Path) -> None:
    def fail(path: Path, root: Path) -> tuple[Inspection, None]:
        raise RuntimeError("a fault of ours")

    handler = InspectionHandler(fail, "model", Untidy(), pages=None)
    with pytest.raises(RuntimeError, match="of ours"):
        handler.handle({"kind": "inspect", "path": str(tmp_path / "S"), "root": str(tmp_path)})


@pytest.mark.parametrize("kind", ["inspect", "upload"])
def test_windows_are_kept_after_the_answer_and_cost_no_verdict(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    ledger = Untidy()
    seen = make_seen_board("S", defects={"U1.lower.B2": "open"}, export_digest="e" * 64)
    monkeypatch.setattr("inspect_pop.station.worker.unpack", lambda *_: tmp_path / "S")
    handler = InspectionHandler(lambda *_: seen, "model", ledger, pages=tmp_path / "pages")
    job = {"kind": kind, "path": str(tmp_path / "S"), "root": str(tmp_path), "into": str(tmp_path / "into"), "limits": {}}
    reply = handler.handle(job)
    assert (reply["status"], reply["answer"]["verdict"], ledger.entries) == (200, "fail", ["S"])
    handler.finish()
    windows = ledger.entries[1]
    assert Counter(w.role for w in windows.windows)["sample"] == 2
    assert "U1.lower.B2" in {w.joint for w in windows.windows}
    assert windows.export == (None if kind == "upload" else ExportPlace(str(tmp_path / "S"), str(tmp_path), "e" * 64))
    assert "the windows of a board were not kept" in caplog.text
    assert len(list((tmp_path / "pages").iterdir())) == 1
    handler.finish()
    assert len(ledger.entries) == 2
