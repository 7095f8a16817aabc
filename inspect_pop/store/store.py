"""The store as the other rooms see it. Every method opens and ends its own transaction and raises `StoreFault`."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import pyarrow as pa
from sqlalchemy import Connection, Engine, select, update

from inspect_pop.core.errors import StoreFault, UsageFault
from inspect_pop.core.inspection import Inspection
from inspect_pop.store import outbox, read
from inspect_pop.store.decisions import insert_decision
from inspect_pop.store.engine import checkpoint, database_url, faults, open_engine, reading, shown, writing
from inspect_pop.store.joint_files import JointFiles, open_files
from inspect_pop.store.maintain import Compacted, compact_files, repair_files
from inspect_pop.store.rows import key_of
from inspect_pop.store.schema import migrate, quarantine, runs
from inspect_pop.store.types import Decision, Message, Quarantined, Run, Standing, StoredBoard, Written, printable
from inspect_pop.store.write import add_messages, insert_new, standing_of, write_inspection

__all__ = ["Store", "open_store"]

T = TypeVar("T")
_LOOKUPS = 2  # a reader whose file was merged away looks up the new one, before it takes the file for lost


def open_store(url: str | Path, *, files: str | Path | None = None, must_exist: bool = False) -> "Store":
    """Open a store, making or updating its schema.

    Parameters
    ----------
    url
        A plain path (a SQLite file, whose folder is made) or a SQLAlchemy URL of SQLite or PostgreSQL. In a URL,
        `?files=ADDRESS` says the same as `files`.
    files
        Where the Parquet files of all joints lie: a folder or an fsspec address. Not told, SQLite keeps them beside the
        database (`records.db` has `records-files/`), and PostgreSQL keeps none.
    must_exist
        Refuse a SQLite file that is not there rather than make it: for whoever only reads.

    Raises
    ------
    StoreFault
        The database cannot be reached, is newer than this software, or is not a store.
    """
    where = database_url(url)
    query = dict(where.query)
    told = files if files is not None else query.pop("files", None)
    where = where.set(query={k: v for k, v in query.items() if k != "files"})
    if where.database is not None and where.drivername.startswith("sqlite"):
        path = Path(where.database)
        told = told if told is not None else path.with_name(f"{path.stem}-files")
        _prepare_folder(path, must_exist)
    engine = open_engine(where)
    try:
        migrate(engine)
    except StoreFault:
        engine.dispose()
        raise
    return Store(engine, None if told is None else open_files(told if isinstance(told, str | Path) else told[0]))


class Store:
    """Records, decisions, quarantine and outbox; made by `open_store`. Safe to use from several threads."""

    def __init__(self, engine: Engine, files: JointFiles | None) -> None:
        self._engine, self._files = engine, files

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give back all connections."""
        self._engine.dispose()

    @property
    def where(self) -> str:
        """The database's address, without its password."""
        return shown(self._engine.url)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for queries of one's own, all of which see one state of the store."""
        with reading(self._engine) as connection:
            yield connection

    # Writing

    def write(self, inspection: Inspection, *, messages: Iterable[Message] = (), run: str | None = None) -> Written:
        """Keep an inspection and the messages that tell of it: all or nothing, once.

        A record that is there already changes nothing. Another record of the same serial is a re-inspection: all of
        the serial's records are numbered by `inspected_at`, and in order of writing where that is the same.
        """
        return write_inspection(self._engine, self._files, inspection, messages, run)

    def add_decision(self, decision: Decision, *, messages: Iterable[Message] = ()) -> bool:
        """Keep what a person decided about a joint; False where it was there already.

        Raises `UsageFault` for a joint, state or time that cannot be.
        """
        with writing(self._engine) as connection:
            new = insert_decision(connection, decision)
            if new:
                add_messages(connection, list(messages))
            return new

    def quarantine(self, found: Quarantined, *, messages: Iterable[Message] = ()) -> bool:
        """Keep that an export could not be inspected, with the messages that tell of it.

        False where this path and reason were there already: nothing is changed, and no message is added.
        """
        path, reason = printable(found.path), printable(found.reason)
        row = {"key": key_of(path, reason), "path": path, "reason": reason, "run_id": found.run, "seen_at": found.seen_at}
        with writing(self._engine) as connection:
            new = insert_new(connection, quarantine, row, "key")
            if new:
                add_messages(connection, list(messages))
            return new

    def begin_run(self, run: Run) -> None:
        """Keep that a run began; one whose id is there already goes on."""
        row = {n: getattr(run, n) for n in ("id", "command", "software", "started_at")}
        row |= {"arguments": json.dumps(run.arguments, default=str)}
        with writing(self._engine) as connection:
            insert_new(connection, runs, row, "id")

    def end_run(self, run: str, *, finished_at: str, outcome: str) -> None:
        """Keep that a run ended, and how."""
        with writing(self._engine) as connection:
            connection.execute(update(runs).where(runs.c.id == run).values(finished_at=finished_at, outcome=outcome))

    # Reading

    def has(self, record: str) -> bool:
        """Whether the record is in the store."""
        return record in self.standing([record])

    def standing(self, records: Sequence[str]) -> dict[str, Standing]:
        """The place of each of these records among its serial's inspections; those that are not there are left out."""
        with self.reading() as connection:
            return standing_of(connection, records)

    def board(self, serial: str) -> list[StoredBoard]:
        """All records of a serial, the first inspection first; empty where there is none."""
        with self.reading() as connection:
            return read.stored_boards(connection, serial=serial)

    def record(self, record: str) -> StoredBoard | None:
        """One record, or None."""
        with self.reading() as connection:
            return next(iter(read.stored_boards(connection, record=record)), None)

    def inspection(self, record: str) -> Inspection:
        """The inspection as it was written, without its pictures. Raises `StoreFault` where the record is not there."""

        def once(connection: Connection) -> Inspection:
            return read.inspection_of(connection, self._held(), record)

        return self._from_files(once)

    def joints(self, *, day: str | None = None, lot: str | None = None, record: str | None = None) -> pa.Table:
        """All joints of a day, lot or record: an Arrow table of `record` and the declared columns; reads those files alone."""

        def once(connection: Connection) -> pa.Table:
            return read.read_joints(self._held(), read.joint_paths(connection, day=day, lot=lot, record=record))

        return self._from_files(once)

    def joint_files(self, *, day: str | None = None, lot: str | None = None) -> list[str]:
        """Addresses of the Parquet files that count, for other tools such as DuckDB."""
        with self.reading() as connection:
            located = read.joint_paths(connection, day=day, lot=lot)
        return [self._held().address(p) for p in dict.fromkeys(p for _, p in located) if p]

    def quarantined(self) -> list[Quarantined]:
        """What could not be inspected, in order of path and reason."""
        columns = (quarantine.c.path, quarantine.c.reason, quarantine.c.seen_at, quarantine.c.run_id)
        with self.reading() as connection:
            return [Quarantined(*row) for row in connection.execute(select(*columns).order_by(*columns))]

    def runs(self) -> list[Run]:
        """All runs, in order of their start."""
        with self.reading() as connection:
            found = connection.execute(select(runs).order_by(runs.c.started_at, runs.c.id)).mappings().all()
        return [Run(**{**row, "arguments": json.loads(row["arguments"])}) for row in found]

    # The outbox

    def queue(self, messages: Iterable[Message]) -> int:
        """Add messages that belong to no record; how many were not there yet."""
        with writing(self._engine) as connection:
            return outbox.queue(connection, messages)

    def claim(self, n: int, *, owner: str, now_us: int, lease_s: float = 60.0) -> list[Message]:
        """Take up to `n` undelivered messages for a while, in order; nobody else gets them before the lease ends."""
        with writing(self._engine) as connection:
            return outbox.claim(connection, n, owner, now_us, lease_s)

    def delivered(self, ids: Iterable[str], *, at: str) -> None:
        """These messages arrived."""
        with writing(self._engine) as connection:
            outbox.delivered(connection, ids, at)

    def failed(self, ids: Iterable[str], *, error: str, retry_us: int) -> None:
        """These messages did not arrive; nobody claims them before `retry_us` (microseconds since 1970)."""
        with writing(self._engine) as connection:
            outbox.failed(connection, ids, error, retry_us)

    def waiting(self, n: int | None = None) -> tuple[int, list[Message]]:
        """How many messages are undelivered, and the first `n` of them."""
        with self.reading() as connection:
            return outbox.waiting(connection, n)

    def forget_delivered(self, before: str) -> int:
        """Delete the messages that arrived before this day (YYYY-MM-DD); how many. None that waits is touched.

        Raises `UsageFault` for anything but a day.
        """
        try:
            day = date.fromisoformat(before).isoformat()
        except ValueError as error:
            raise UsageFault(f"messages before {before!r}", expected="a day such as 2026-03-01", found=str(error)) from error
        with writing(self._engine) as connection:
            return outbox.forget(connection, day)

    # Maintenance

    def checkpoint(self) -> None:
        """Move what SQLite's log holds into the database, now rather than in a write that somebody waits for."""
        checkpoint(self._engine)

    def compact(self, *, before: str | None = None, largest: int = 1000) -> Compacted:
        """Merge the small files of each day and lot, up to `largest` boards a file; only days before `before` (YYYY-MM-DD).

        Whoever reads meanwhile sees each record once; a crash leaves orphans for `repair` and nothing else.
        """
        return compact_files(self._engine, self._held(), before, largest)

    def repair(self, *, older_than_s: float = 3600.0) -> list[str]:
        """Remove files that a crash left without their record, unchanged for so long; their paths below the base."""
        return repair_files(self._engine, self._held(), older_than_s)

    def _held(self) -> JointFiles:
        if self._files is None:
            remedy = "Open it with files=, or ?files= in its URL."
            raise StoreFault(self.where, expected="a place for the joints' files", found="none", remedy=remedy)
        return self._files

    def _from_files(self, once: Callable[[Connection], T]) -> T:
        for _ in range(_LOOKUPS):
            with self.reading() as connection, suppress(FileNotFoundError):
                return once(connection)
        with self.reading() as connection:
            return once(connection)


def _prepare_folder(path: Path, must_exist: bool) -> None:
    if path.is_dir():
        raise StoreFault(
            str(path), expected="a file", found="a folder", remedy=f"Name a file in it, such as {path / 'records.db'}."
        )
    if must_exist and not path.exists():
        raise StoreFault(
            str(path), expected="a store", found="no such file", remedy="Inspect something first, or correct the path."
        )
    with faults(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
