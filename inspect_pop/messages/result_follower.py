"""Write the results of whatever is new in a store, inspections and people's decisions alike, for the line's neighbours.

A thread asks the store; no board and no person waits for a neighbour's folder. Each folder holds how far it is
(`.TEMPLATE.position.json`): after a restart, or while a share was away, nothing is lost and nothing is written twice that the
neighbour has already taken. A folder without that file begins with the next board.
"""

import json
import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from inspect_pop.core.atomic import write_text
from inspect_pop.core.errors import StoreFault, describe_error
from inspect_pop.report.result_files import ResultsTarget, TemplateFault
from inspect_pop.store import Store, StoreMark

__all__ = ["FollowedTarget", "ResultsFollower"]

POLL_S = 0.5
LONGEST_WAIT_S = 30.0
log = logging.getLogger(__name__)


@dataclass
class FollowedTarget:
    """A target and how far it is: the mark of the store up to which all results are written."""

    target: ResultsTarget
    mark: StoreMark

    @classmethod
    def begin(cls, target: ResultsTarget, store: Store) -> "FollowedTarget":
        """Continue where an earlier process stopped, or begin with the next board. Raises `StoreFault`."""
        mark = None
        with suppress(OSError, ValueError, TypeError, KeyError):
            document = json.loads(_locate_position(target).read_text(encoding="utf-8"))
            if document["store"] == store.where:
                mark = StoreMark(tuple(map(int, document["boards"])), tuple(map(int, document["decisions"])))
        followed = cls(target, store.find_changes(None)[1] if mark is None else mark)
        followed.save(store)
        return followed

    def catch_up(self, store: Store) -> int:
        """Write the results of what is new, some hundred records at most; return the number of records.

        A record that the template cannot show is named in the log, and the others go on.

        Raises:
            StoreFault: The store cannot be read or the folder cannot be written. What is not written comes again.
        """
        records, mark = store.find_changes(self.mark)
        for record in records:
            stored = store.record(record)
            if stored is None:
                continue
            try:
                self.target.write(stored)
            except TemplateFault as fault:
                log.error("no result file for a board", extra={"record": record, "reason": str(fault)})
        if mark != self.mark:
            self.mark = mark
            self.save(store)
        return len(records)

    def save(self, store: Store) -> None:
        """Write how far the target is. Raises `StoreFault`."""
        document = {"store": store.where, "boards": self.mark.boards, "decisions": self.mark.decisions}
        try:
            self.target.folder.mkdir(parents=True, exist_ok=True)
            write_text(_locate_position(self.target), json.dumps(document))
        except OSError as error:
            expect = "a folder for results"
            raise StoreFault(
                str(self.target.folder), expected=expect, found=describe_error(error), remedy="Free or unlock it."
            ) from error


def _locate_position(target: ResultsTarget) -> Path:
    return target.folder / f".{target.template.name}.position.json"


class ResultsFollower:
    """A thread for each target, which writes what is new in the store. A target whose folder is away holds up no other."""

    def __init__(self, store: Store, targets: Sequence[ResultsTarget]) -> None:
        self._store = store
        self._stop = threading.Event()
        followed = [FollowedTarget.begin(target, store) for target in targets]
        self._threads = [
            threading.Thread(target=self._follow, args=(one,), name=f"results-{k}", daemon=True) for k, one in enumerate(followed)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self, limit_s: float) -> None:
        """Write what is new once more, and end the threads."""
        self._stop.set()
        for thread in self._threads:
            thread.join(limit_s)

    @property
    def is_alive(self) -> bool:
        """Whether a thread runs."""
        return any(thread.is_alive() for thread in self._threads)

    def _follow(self, followed: FollowedTarget) -> None:
        wait_s, is_last = POLL_S, False
        while not is_last:
            is_last = self._stop.wait(wait_s)
            try:
                wait_s = 0.0 if followed.catch_up(self._store) else POLL_S
            except StoreFault as fault:
                log.warning("results wait", extra={"reason": str(fault)})
                wait_s = min(LONGEST_WAIT_S, wait_s * 2)
