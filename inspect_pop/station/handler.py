"""One inspection for the line: inspect, record with messages, answer; then have the board's page drawn.

A verdict is answered only after the record and its messages are in the store. A board that cannot be inspected goes to
quarantine. The page is drawn after the answer: the line does not wait for it.
"""

import hashlib
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

from inspect_pop.core.errors import FileFault, InputFault, PopError, StoreFault
from inspect_pop.core.inspection import Inspection
from inspect_pop.core.recipe import Recipe
from inspect_pop.ingest import find_root, identify_board
from inspect_pop.station.contract import JudgingOptions, Rules, make_answer, make_error_answer, show_path
from inspect_pop.station.outputs import InlinePages, Ledger, PageDrawer
from inspect_pop.station.uploads import ArchiveLimits, unpack

__all__ = ["InspectionHandler", "Inspector", "InspectorFactory", "locate_page"]

# (the board's folder, the root that its files must lie in) -> the inspection, and the recipe that its page needs.
# Raises PopError.
Inspector = Callable[[Path, Path], tuple[Inspection, Recipe | None]]
InspectorFactory = Callable[[JudgingOptions], tuple[Inspector, Rules]]
log = logging.getLogger(__name__)

# What the system and Python's threads raise and say where Python itself would raise MemoryError.
_SHORT_OF_MEMORY = (MemoryError, RuntimeError, OSError, ImportError)
_NO_MEMORY = ("cannot allocate memory", "can't start new thread", "unable to allocate")


class InspectionHandler:
    """Handles inspection jobs.

    Args:
        inspector: Inspects one board.
        model: Digest of the inspector's model.
        ledger: Where records go.
        pages: Folder for the boards' pages; None draws none.
        drawer: Writes the pages; default: in this process.
    """

    def __init__(
        self, inspector: Inspector, model: str, ledger: Ledger, *, pages: Path | None, drawer: PageDrawer | None = None
    ) -> None:
        self._inspector, self.model, self._ledger, self._pages = inspector, model, ledger, pages
        self._drawer = drawer or InlinePages()
        self.is_spent = False  # the process ran out of memory: another one may have more
        self._pending: _Pending | None = None

    def handle(self, job: dict[str, Any]) -> dict[str, Any]:
        """Handle one job.

        Args:
            job: `kind` is `inspect`, with `path` and perhaps `root`, or `upload`, with `path` of a zip, `into` and `limits`.
                `name` is the board's name in quarantine (default: the path), `report` the address of its page, in which
                `{record}` stands for the record.

        Returns:
            `status` is an HTTP status: 200 inspected, 422 something is wrong with the board, 503 try again. `answer` is the
            answer. `ms` has, for a board that was inspected, the milliseconds of each part.
        """
        started = time.monotonic()
        name, path = str(job.get("name") or show_path(job["path"])), Path(job["path"])
        try:
            if job["kind"] == "upload":
                root = Path(job["into"])
                path = unpack(path, root, ArchiveLimits(**job["limits"]))
            else:
                root = Path(job["root"]) if job.get("root") else find_root(path)
            inspection, recipe = self._inspector(path, root)
            inspected = time.monotonic()
            self._ledger.record(inspection)
        except InputFault as fault:
            return self._quarantine(job, path, fault, started)
        except StoreFault as fault:
            return _refuse(HTTPStatus.SERVICE_UNAVAILABLE, fault, started)
        except PopError as fault:
            return _refuse(HTTPStatus.UNPROCESSABLE_ENTITY, fault, started)
        except _SHORT_OF_MEMORY as error:
            if not _is_short_of_memory(error):
                raise
            self.is_spent = True
            too_large = FileFault(name, expected="a board that fits in memory", found="a larger one, or too little memory")
            return self._quarantine(job, path, too_large, started)
        recorded = time.monotonic()
        answer = make_answer(inspection, report=None, elapsed_ms=(recorded - started) * 1000)
        page = None if self._pages is None or recipe is None else locate_page(self._pages, inspection.board.record)
        if page is not None:
            answer["report"] = str(job.get("report", page)).replace("{record}", page.stem)
        if recipe is not None:
            place = None if job["kind"] == "upload" else (path, root)
            self._pending = _Pending(inspection, recipe, page, place)
        ms = {"inspect": (inspected - started) * 1000, "record": (recorded - inspected) * 1000}
        return {"status": HTTPStatus.OK, "answer": answer, "ms": ms}

    def finish(self) -> None:
        """Do what the answer does not wait for: tidy the ledger, keep the last board's windows, and have its page drawn.

        A fault is logged and costs no verdict.
        """
        try:
            self._ledger.tidy()
        except StoreFault as fault:
            log.warning("the store was not tidied", extra={"reason": str(fault)})
        if self._pending is not None:
            board, self._pending = self._pending, None
            if board.inspection.stacks:
                self._keep_windows(board)
            if board.page is not None:
                self._drawer.draw(board.page, replace(board.inspection, stacks=()), board.recipe)

    def _keep_windows(self, board: "_Pending") -> None:
        from inspect_pop.verify.windows import ExportPlace, cut_windows  # an answer does not need it

        export = None
        if board.place is not None:
            path, root = (str(place.resolve()) for place in board.place)
            export = ExportPlace(path, root, board.inspection.board.export_digest)
        try:
            sample_size = self._ledger.count_sample()
            self._ledger.keep_windows(cut_windows(board.inspection, board.recipe, export, sample_size=sample_size))
        except StoreFault as fault:
            log.warning("the windows of a board were not kept", extra={"reason": str(fault)})

    def _quarantine(self, job: dict[str, Any], path: Path, fault: InputFault, started: float) -> dict[str, Any]:
        name = str(job.get("name") or job["path"])
        serial, content = identify_board(path)
        if job["kind"] == "upload":
            fault = _name_within(fault, Path(job["into"]), Path(job["path"]))
            name = name if content else f"{name} ({secrets.token_hex(6)})"  # each upload without a board is one of its own
        try:
            self._ledger.quarantine(name, fault, serial, content)
        except StoreFault as store_fault:
            return _refuse(HTTPStatus.SERVICE_UNAVAILABLE, store_fault, started)
        refused = _refuse(HTTPStatus.UNPROCESSABLE_ENTITY, fault, started)
        refused["answer"]["serial"] = serial
        return refused


@dataclass(frozen=True)
class _Pending:
    """A board that was answered, with what is still to be done for it: `place` is its export and root; None for an upload."""

    inspection: Inspection
    recipe: Recipe
    page: Path | None
    place: tuple[Path, Path] | None


def _name_within(fault: InputFault, into: Path, archive: Path) -> InputFault:
    """Return the fault of an upload without the temporary folder, which is another one each time."""
    parts = {}
    for part in ("thing", "expected", "found", "remedy"):
        text = getattr(fault, part)
        for folder in (into.resolve(), into, archive.parent.resolve(), archive.parent):
            text = text.replace(f"{folder}/", "")
        parts[part] = text
    return type(fault)(**parts)


def locate_page(pages: Path, record: str) -> Path:
    """Return the file of a record's page. An identifier that is not letters and digits only is replaced by its digest."""
    name = record if record.isascii() and record.isalnum() else hashlib.sha256(record.encode()).hexdigest()
    return pages / f"{name}.html"


def _is_short_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in _NO_MEMORY)


def _refuse(status: int, fault: PopError, started: float) -> dict[str, Any]:
    return {"status": status, "answer": make_error_answer(fault, elapsed_ms=(time.monotonic() - started) * 1000)}
