"""What a writing process does in the tests of several of them."""

import os
import signal
from multiprocessing.connection import Connection

from inspect_pop.core.inspection import Inspection
from inspect_pop.store import Message, open_store
from inspect_pop.store.joint_files import LocalFiles, PendingFile
from tests.factories import again, make_inspection

SMALL = {"lower": 2, "upper": 2}


def boards(first: int, last: int) -> list[Inspection]:
    """Every seventh with a defect, every fifth inspected a second time; small, so that writing is all that takes time."""
    found = []
    for k in range(first, last):
        defects = {"U1.lower.A1": "open"} if k % 7 == 0 else {}
        found.append(make_inspection(f"S{k:05d}", defects=defects, side=SMALL, lot=f"L{k % 3}"))
        if k % 5 == 0:
            found.append(again(make_inspection(f"S{k:05d}", side=SMALL), lot=f"L{k % 3}"))
    return found


def make_message(one: Inspection) -> Message:
    """Return a message about a record."""
    return Message(f"m-{one.board.record}", "UnitsInspected", "{}", one.board.inspected_at, one.board.record)


def write(url: str, files: str, first: int, last: int, kept: Connection) -> None:
    """Write boards one by one; send each record once it is kept."""
    with open_store(url, files=files) as store:
        for one in boards(first, last):
            store.write(one, messages=[make_message(one)])
            kept.send(one.board.record)
    kept.close()


def die_at_the_last_step(url: str, files: str, placed: bool) -> None:
    """Write one board, and be killed when its file gets its name: just before it, or just after."""
    place = LocalFiles.place

    def dies(self: LocalFiles, pending: PendingFile) -> None:
        if placed:
            place(self, pending)
        os.kill(os.getpid(), signal.SIGKILL)

    LocalFiles.place = dies  # type: ignore[method-assign]
    with open_store(url, files=files) as store:
        store.write(boards(0, 1)[0])
