"""What is done after the answer costs no verdict."""

from pathlib import Path

import pytest

from inspect_pop.core.errors import InputFault, StoreFault
from inspect_pop.core.inspection import Inspection
from inspect_pop.station.handler import InspectionHandler
from tests.factories import make_inspection


class Untidy:
    """A ledger that keeps everything and cannot be tidied."""

    def __init__(self) -> None:
        self.entries: list[str] = []

    def record(self, inspection: Inspection) -> None:
        self.entries.append(inspection.board.serial)

    def quarantine(self, name: str, fault: InputFault, serial: str | None = None, content: str | None = None) -> None:
        self.entries.append(f"{name}: {fault}")

    def tidy(self) -> None:
        raise StoreFault("records.db", found="disk I/O error")


def test_a_store_that_cannot_be_tidied_costs_no_verdict(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ledger = Untidy()
    handler = InspectionHandler(lambda path, _: (make_inspection(path.name), None), "model", ledger, pages=None)
    reply = handler.handle({"kind": "inspect", "path": str(tmp_path / "S"), "root": str(tmp_path)})
    handler.finish()
    assert (reply["status"], ledger.entries) == (200, ["S"])
    assert set(reply["ms"]) == {"inspect", "record"}
    assert "not tidied" in caplog.text
