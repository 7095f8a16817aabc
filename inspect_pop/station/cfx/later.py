"""What the outbox holds of a record's messages until they are sent: that they are due. What they say follows from the record.

The notes are written in the record's transaction, so there is no record without its messages; identifier, name and time are
final from then on. To spell a message with fifty defects out takes milliseconds and hundreds of kilobytes, for which no board
has to wait: it is done when the message is sent, as often as that is tried, with the same result each time.
"""

import json
from dataclasses import replace

from inspect_pop.errors import StoreFault
from inspect_pop.inspection import Inspection
from inspect_pop.station.cfx.build import Found, about, message, methods, parts
from inspect_pop.station.cfx.messages import Method
from inspect_pop.store import Message, Store

__all__ = ["Speller", "notes"]

_DUE = '{"due":'  # so begins a note and no CFX message, which begins with its name


def notes(inspection: Inspection, handle: str) -> list[Message]:
    """A note for each message of this record, in order."""
    by, board = methods(inspection), inspection.board
    due = []
    for part in parts(by):
        unique, kind, at = about(board, part)
        text = json.dumps({"due": part, "methods": by, "handle": handle}, separators=(",", ":"))
        due.append(Message(unique, kind, text, at, record=board.record))
    return due


class Speller:
    """Spells out what is due; the messages of a record follow each other, so the last record is kept at hand."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: tuple[str, Found] | None = None

    def whole(self, waiting: Message) -> Message:
        """The message as it travels: one that is whole already stays. Raises `StoreFault` where its record is gone."""
        if not waiting.text.startswith(_DUE) or waiting.record is None:
            return waiting
        note = waiting.payload
        found = self._found(waiting.record, tuple(Method(m) for m in note["methods"]))
        return replace(waiting, text=message(found, note["due"], note["handle"]).text)

    def _found(self, record: str, by: tuple[Method, ...]) -> Found:
        if self._known is None or self._known[0] != record:
            stored = self._store.record(record)
            if stored is None:
                remedy = "Restore the record, or take its messages out of the outbox: what comes behind them waits."
                raise StoreFault(f"record {record}", expected="the record of a message", found="none", remedy=remedy)
            self._known = (record, Found(stored.board, stored.packages, stored.defects, by))
        return self._known[1]
