"""The inspecting process, and the way of one inspection through it.

A verdict is answered only after the record and its messages are in the store. A board that cannot be inspected goes to
quarantine. The page is drawn after the answer: the line does not wait for it.
"""

import faulthandler
import gc
import hashlib
import importlib
import json
import logging
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any

from inspect_pop.core.errors import FileFault, InputFault, PopError, StoreFault, UsageFault
from inspect_pop.core.inspection import Inspection
from inspect_pop.core.recipe import Recipe
from inspect_pop.core.system import open_missing_streams, utc_now
from inspect_pop.ingest import find_root, identify_board
from inspect_pop.station.contract import (
    DEFAULT_FACTORY,
    DEFAULT_HANDLE,
    JudgingOptions,
    Rules,
    make_answer,
    make_error_answer,
    make_rules_fault,
    show_path,
)
from inspect_pop.station.outputs import (
    ForkedProcess,
    InlinePages,
    Ledger,
    PageDrawer,
    StoreLedger,
    SubprocessLedger,
    SubprocessPages,
)
from inspect_pop.station.uploads import ArchiveLimits, unpack

__all__ = ["InspectionHandler", "Inspector", "InspectorFactory", "load_inspector", "locate_page", "main"]

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


# The inspecting process: it holds the model and inspects one board at a time. It may be killed at any moment.
#
# It reads and writes lines of JSON. The first line that it reads is its configuration: `store`, `pages`, the fields of
# `contract.JudgingOptions`, `expect` (fields of `contract.Rules` that it must judge by, or not start), `inspector_factory`,
# `cfx_handle`, `limit_s`, `once`. Every further line is a job (`InspectionHandler.handle`). The first
# line that it writes says whether it is ready. Each job is answered by two lines: the reply, and `done` when the process can
# take another job; with `spent` it ran out of memory and must be replaced. It ends when its input ends.
#
# An undeclared error ends the process, with a traceback in the log. The process that asked then answers 'could not inspect'.
# With `once` it handles one job and closes its output after the reply, so that the hook does not wait for the page.
#
# Where pandas is installed, pyarrow imports it at the first board although nothing here uses it: 3.8 s of CPU time until the
# process ends become 4.2 s, and 271 MB become 294 MB (medians of 10 processes, one board each). `requirements-station.txt`
# leaves pandas out. scipy imports `numpy.f2py`, which costs less than these measurements can tell.


YIELD_S = 0.01  # on a busy machine the process that asked needs this core to pass the answer on; the page can wait
GRACE_S = 5.0  # after the time limit that the asking process enforces, this one ends itself: the other may be gone


def load_inspector(options: JudgingOptions) -> tuple[Inspector, Rules]:
    """Load the product's inspector, which keeps to one core.

    Returns:
        The inspector, and by what it judges.

    Raises:
        ModelFault: The model cannot be used.
        LimitsFault: The limits cannot be used.
        PromiseFault: The model cannot keep the promised rates.
    """
    # These load numpy, scipy, onnxruntime and OpenCV: after `main` has forked its child, and not for another factory.
    import cv2

    from inspect_pop.batch.jobs import choose_limits, tune_process
    from inspect_pop.batch.run import count_cores
    from inspect_pop.classify.model import load
    from inspect_pop.classify.session import Classifier
    from inspect_pop.core.limits import load_limits
    from inspect_pop.ingest import open_export
    from inspect_pop.pipeline.board import inspect_board

    tune_process()
    model = load(Path(options.model) if options.model else None)
    point = None  # the model's thresholds, unless error rates are promised
    if options.max_escape_rate is not None or options.max_false_call_ppm is not None:
        from inspect_pop.classify.operating_points import choose_model_point

        point = choose_model_point(
            model, max_escape_rate=options.max_escape_rate, max_false_call_ppm=options.max_false_call_ppm
        ).point
    classifier = Classifier(model, point=point)
    prefetch = count_cores() > 1  # the line waits for this board, so a second core may decode its pictures
    limits = load_limits(Path(options.limits) if options.limits else None, options.profile)

    qualified = {(machine, digest, of_limits) for machine, digest, of_limits in options.qualified or ()}

    def inspect(path: Path, root: Path) -> tuple[Inspection, Recipe]:
        export = open_export(path, root)
        now, digest = utc_now(), classifier.for_machine(export.machine).digest
        chosen = choose_limits(limits, qualified, export.machine, digest)
        try:
            inspection = inspect_board(export, classifier, chosen, started_at=now, read_ahead=prefetch, keep_stacks=True)
        except cv2.error as error:
            if error.code == cv2.Error.StsNoMem:
                raise MemoryError(str(error)) from error
            raise
        return inspection, export.recipe

    used = classifier.point
    return inspect, Rules(classifier.digest, limits.digest, options.profile or "", used.pass_below, used.fail_above)


def main() -> int:
    """Serve standard input until it ends."""
    open_missing_streams()
    gc.disable()  # a full collection takes 60 ms and finds 300 objects per board: `_serve` runs it when no board waits
    config: dict[str, Any] = json.loads(sys.stdin.readline() or "{}")
    once, pages, store = config.get("once"), config.get("pages"), config["store"]
    cfx_handle = str(config.get("cfx_handle") or DEFAULT_HANDLE)
    # Children are forked before the pipe for replies is duplicated, which would stay open in them, and before anything
    # loads more memory. A process for one board has its store opened by a child, a resident one its pages drawn by one.
    child_ledger = SubprocessLedger(store, cfx_handle) if once and ForkedProcess.is_supported() else None
    drawer: PageDrawer = SubprocessPages() if pages and not once and ForkedProcess.is_supported() else InlinePages()
    # Replies alone go to standard output. What a library prints goes to the log.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        factory = _import_factory(str(config.get("inspector_factory") or DEFAULT_FACTORY))
        inspector, rules = factory(JudgingOptions.from_dict(config))
        difference = rules.find_difference(config.get("expect") or {})
        if difference is not None:
            raise make_rules_fault(*difference)
        ledger: Ledger = child_ledger or StoreLedger(store, cfx_handle)
    except PopError as error:
        _write_reply(replies, {"ready": False, "answer": make_error_answer(error)})
        return 1
    _write_reply(replies, {"ready": True, "model": rules.model, "rules": asdict(rules)})
    if not once:
        gc.collect()
        gc.freeze()  # libraries and model stay: no collection needs to look through them
    handler = InspectionHandler(inspector, rules.model, ledger, pages=Path(pages) if pages else None, drawer=drawer)
    status = _serve(handler, replies, limit_s=config.get("limit_s"), once=bool(once))
    drawer.close()
    return status


def _serve(handler: InspectionHandler, replies: IO[str], *, limit_s: float | None, once: bool) -> int:
    for line in sys.stdin:
        with _end_process_after(limit_s):
            _write_reply(replies, handler.handle(json.loads(line)))
            if once:
                # The hook reads until all ends of its pipes are closed.
                replies.close()
                null = os.open(os.devnull, os.O_RDWR)
                for descriptor in (0, 1, 2):
                    os.dup2(null, descriptor)
            time.sleep(YIELD_S)
            handler.finish()
            if once:
                return 0
            gc.collect()
            _write_reply(replies, {"done": True} | ({"spent": True} if handler.is_spent else {}))
    return 0


def _write_reply(replies: IO[str], reply: dict[str, Any]) -> None:
    replies.write(json.dumps(reply) + "\n")
    replies.flush()


def _import_factory(name: str) -> InspectorFactory:
    module, _, function = name.partition(":")
    try:
        factory: InspectorFactory = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageFault(f"inspector factory {name}", expected="module:function", found=str(error)) from error
    return factory


@contextmanager
def _end_process_after(limit_s: float | None) -> Iterator[None]:
    """End the process, with a traceback in the log, if the block takes too long. Works within native code, too."""
    if limit_s is not None:
        faulthandler.dump_traceback_later(limit_s + GRACE_S, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    sys.exit(main())
