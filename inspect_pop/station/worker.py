"""The product's own inspector, warm: model loaded, libraries imported, one thread a process.

The inspecting process: warm, one board at a time, spoken to by lines of JSON; it may be killed at any moment.

The first line that it reads says how it is set up (`store`, `model`, `limits`, `maker`, `limit_s`), each further line is one
job. The first line that it writes says that it is ready; a job is answered by two more, the reply and, when it can take the
next one, `done`. It ends when its input ends. A fault that nobody declared ends it, with a traceback in the log;
whoever asked sees that and answers 'could not inspect'. With `once` it serves one job, and lets its asker go before `done`.
"""

import faulthandler
import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from inspect_pop.batch.process_tuning import settle_on_one_core
from inspect_pop.batch.run import cores
from inspect_pop.classify.model import load
from inspect_pop.classify.session import Classifier
from inspect_pop.core import limits as limit_files
from inspect_pop.core.errors import PopError, UsageFault
from inspect_pop.core.inspection import Inspection
from inspect_pop.core.recipe import Recipe
from inspect_pop.ingest import open_export
from inspect_pop.pipeline.board import inspect_board
from inspect_pop.station.answer import could_not
from inspect_pop.station.handler import Bench, Books, Inspector, Ledger, Maker, Scribe
from inspect_pop.station.page_drawer import Apart, Here, Pages

__all__ = ["main", "released", "warm"]


# ---- station/inspector
def warm(model: Path | None, limits_file: Path | None) -> tuple[Inspector, str]:
    """An inspector by the model at `model` (None: the released one) and the limits of a file; and the model's digest.

    Raises `ModelFault`, `LimitsFault`.
    """
    settle_on_one_core()
    classifier = Classifier(load(model))
    ahead = cores() > 1  # the line waits for one board, not for the next ones
    limits = limit_files.load(limits_file) if limits_file else limit_files.Limits()

    def inspect(path: Path, root: Path) -> tuple[Inspection, Recipe]:
        export = open_export(path, root)
        started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        return inspect_board(export, classifier, limits, started_at=started_at, ahead=ahead), export.recipe

    return inspect, classifier.digest


# ---- station/worker
GIVE_WAY_S = 0.01  # on a busy machine whoever asked needs this core to pass the answer on; all else can wait
GRACE_S = 5.0  # after the asker's own limit, the process ends itself: its asker may be gone


def main() -> int:
    """Serve standard input until it ends."""
    gc.disable()  # a full collection takes 60 ms and finds 300 objects a board: it is done when nobody waits, see `_serve`
    hello = json.loads(sys.stdin.readline() or "{}")
    # A process for one board has its store opened apart: before anything heavy is imported here, and before the pipe for
    # replies is doubled, which would stay open there. So has another one its pages drawn apart.
    apart = Scribe(hello["store"], _handle(hello)) if hello.get("once") and Scribe.can() else None
    drawer: Pages = Apart() if hello.get("pages") and not hello.get("once") and Apart.can() else Here()
    replies = _private_output()
    try:
        inspector, model = _maker(hello)(*(Path(hello[k]) if hello.get(k) else None for k in ("model", "limits")))
        ledger: Ledger = apart or Books(hello["store"], _handle(hello))
    except PopError as error:
        _say(replies, {"ready": False, "answer": could_not(error)})
        return 1
    _say(replies, {"ready": True, "model": model})
    if not hello.get("once"):
        gc.collect()
        gc.freeze()  # libraries and model are here to stay
    bench = Bench(inspector, model, ledger, pages=Path(hello["pages"]) if hello.get("pages") else None, drawer=drawer)
    status = _serve(bench, replies, hello)
    drawer.close()
    return status


def _serve(bench: Bench, replies: IO[str], hello: dict[str, Any]) -> int:
    for line in sys.stdin:
        with _no_longer_than(hello.get("limit_s")):
            _say(replies, bench.do(json.loads(line)))
            if hello.get("once"):
                _let_go(replies)
            time.sleep(GIVE_WAY_S)
            bench.finish()
            if hello.get("once"):
                return 0
            gc.collect()
            _say(replies, {"done": True})
    return 0


class _Unneeded(MetaPathFinder):
    """Keeps out what libraries import and an inspection never uses: a fresh process would let a board wait for it.

    pyarrow imports pandas at its first array, where it is installed: most of a second. scipy takes all names of numpy, and so
    imports its translator of Fortran (40 ms), which becomes an empty module.
    """

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        if name == "pandas":
            raise ModuleNotFoundError("not in an inspecting process", name=name)
        return ModuleSpec(name, _Empty()) if name == "numpy.f2py" else None


class _Empty(Loader):
    def exec_module(self, module: ModuleType) -> None:
        """Nothing is in it."""


def released(model: Path | None, limits: Path | None) -> tuple[Inspector, str]:
    """The product's own inspector with the model at `model` (None: the released one), and the model's digest."""
    # heavy, and not needed by a process that is given another maker

    return warm(model, limits)


def _let_go(replies: IO[str]) -> None:
    """Whoever asked has its answer and is not to wait for this process: nothing of theirs stays open."""
    replies.close()
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)


def _private_output() -> IO[str]:
    """Standard output as it was, for replies alone: whatever a library prints goes to the log."""
    private = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return private


def _say(replies: IO[str], reply: dict[str, Any]) -> None:
    replies.write(json.dumps(reply) + "\n")
    replies.flush()


def _handle(hello: dict[str, Any]) -> str:
    return str(hello.get("handle") or "inspect_pop")


def _maker(hello: dict[str, Any]) -> Maker:
    name = hello.get("maker") or "inspect_pop.station.worker:released"
    module, _, function = name.partition(":")
    try:
        maker: Maker = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageFault(f"maker {name}", expected="module:function", found=str(error)) from error
    return maker


@contextmanager
def _no_longer_than(limit_s: float | None) -> Iterator[None]:
    """End the process, with a traceback in the log, when one job takes too long: works in native code too."""
    if limit_s is not None:
        faulthandler.dump_traceback_later(limit_s + GRACE_S, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    sys.meta_path.insert(0, _Unneeded())
    sys.exit(main())
