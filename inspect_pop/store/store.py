"""The store: records, decisions, quarantine, runs and the outbox. Every method runs one transaction."""

import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import date
from itertools import takewhile
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import pyarrow as pa
from sqlalchemy import Connection, Engine, RowMapping, delete, false, func, select, text, update

from inspect_pop.core.errors import PopError, StoreFault, UsageFault
from inspect_pop.core.inspection import DEFAULT_SAMPLE, Inspection
from inspect_pop.store import rows
from inspect_pop.store.accounts import (
    Accounts,
    AuditEntry,
    Qualification,
    QualifiedMachine,
    add_audit,
    add_qualification,
    list_audit,
    list_qualifications,
    name_qualified,
)
from inspect_pop.store.engine import (
    checkpoint,
    database_url,
    hide_password,
    migrate,
    open_engine,
    reading,
    translate_errors,
    watch_identity,
    writing,
)
from inspect_pop.store.joint_files import (
    CompactionResult,
    JointFiles,
    LocalFiles,
    compact_files,
    open_joint_files,
    repair_files,
)
from inspect_pop.store.ownership import MARKER, FilesOwner, ensure_identity, open_default_folder, open_given_folder
from inspect_pop.store.retention import Pruned, find_first_day, prune_joints, prune_records
from inspect_pop.store.rows import make_message_row
from inspect_pop.store.schema import boards, quarantine, runs, samples
from inspect_pop.store.schema import messages as outbox
from inspect_pop.store.summaries import read_queue
from inspect_pop.store.types import (
    UNCHECKED,
    Decision,
    InspectionSequence,
    Message,
    OutboxEntry,
    QuarantinedExport,
    RunRecord,
    StoredBoard,
    StoreMark,
    WriteResult,
    escape_text,
    parse_time_us,
)
from inspect_pop.store.verification import MakeMessage, fill_added, insert_decisions
from inspect_pop.store.write import add_messages, find_sequences, insert_new, write_inspection

__all__ = ["Store", "open_store"]

T = TypeVar("T")
_LEAST_FREE_BYTES = 8 << 20  # some boards: a record with its joint file takes less than 1 MB
_WAITS = outbox.c.delivered_at.is_(None) & outbox.c.set_aside_at.is_(None)
VOID_AFTER = 4  # clocks of two stations differ by less than some minutes; a lease lasts two
_LOOKUPS = 2  # a reader whose file was merged away looks up the new one before it takes the file for lost


def open_store(
    url: str | Path,
    *,
    files: str | Path | None = None,
    must_exist: bool = False,
    time_zone: str | None = None,
    verify_sample: int | None = None,
) -> "Store":
    """Open a store; create its database, or update its schema, if necessary.

    Parameters
    ----------
    url
        A plain path (a SQLite file; its folder is created) or a SQLAlchemy URL of SQLite or PostgreSQL. A URL may give
        `files` as `?files=ADDRESS`.
    files
        Where the Parquet files of all joints are: a folder or an fsspec address. By default SQLite keeps them beside the
        database (`records.db` has `records-files/`), and PostgreSQL keeps none.
    must_exist
        Refuse a file that does not exist or an empty database instead of making a store; for commands that only read.
    time_zone
        The plant's time zone by its IANA name: the day of each board that is written from now on is the day there. The store
        keeps it. By default a board's day is the date of `inspected_at` as it is written, in its own offset.
    verify_sample
        How many joints that passed a person looks at, on each board that is written from now on. The store keeps it; 1 at first.

    Raises
    ------
    UsageFault
        The time zone is unknown, or the sample is below 0.
    StoreFault
        The database cannot be reached, is newer than this software, or is not a store.
    """
    where = database_url(url)
    query = dict(where.query)
    files_address = files if files is not None else query.pop("files", None)
    where = where.set(query={k: v for k, v in query.items() if k != "files"})
    if where.database is not None and where.drivername.startswith("sqlite"):
        path = Path(where.database)
        with translate_errors(str(path)):
            if path.is_dir():
                remedy = f"Name a file in it, such as {path / 'records.db'}."
                raise StoreFault(str(path), expected="a file", found="a folder", remedy=remedy)
            if must_exist and not path.exists():
                remedy = "Inspect something first, or correct the path."
                raise StoreFault(str(path), expected="a store", found="no such file", remedy=remedy)
            path.parent.mkdir(parents=True, exist_ok=True)
    engine = open_engine(where, read_only=must_exist)
    try:
        migrate(engine, fill=fill_added, must_exist=must_exist)
        identity = ensure_identity(engine, time_zone, verify_sample)
        watch_identity(engine, identity.id)
        joint_files = _open_files(engine, identity.id, files_address)
    except PopError:
        engine.dispose()
        raise
    owner = None if joint_files is None else FilesOwner(engine, joint_files, identity.id)
    return Store(engine, joint_files, owner, identity.time_zone, identity.verify_sample)


def _open_files(engine: Engine, store: str, address: str | Path | Sequence[str] | None) -> JointFiles | None:
    """Open the joint files at the address that the user gave, or beside a SQLite database; None for a server without."""
    if address is None:
        is_file = engine.dialect.name == "sqlite"
        return open_default_folder(engine, store, Path(str(engine.url.database))) if is_file else None
    files = open_joint_files(address if isinstance(address, str | Path) else address[0])
    return open_given_folder(store, files) if isinstance(files, LocalFiles) else files


class Store:
    """Records, decisions, quarantine, runs and the outbox. Made by `open_store`; safe to use from several threads.

    Every method opens and ends its own transaction and raises `StoreFault` if the database or the files fail.
    """

    def __init__(
        self,
        engine: Engine,
        files: JointFiles | None,
        owner: FilesOwner | None = None,
        time_zone: str | None = None,
        verify_sample: int = DEFAULT_SAMPLE,
    ) -> None:
        self._engine, self._files, self._owner = engine, files, owner
        self.time_zone, self.verify_sample = time_zone, verify_sample
        self.accounts = Accounts(engine)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Move SQLite's log into the database file, so that a copy of it is whole, and close all connections."""
        with suppress(StoreFault):
            checkpoint(self._engine, empty=True)
        self._engine.dispose()

    @property
    def where(self) -> str:
        """The database's address, without its password."""
        return hide_password(self._engine.url)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection for other queries, all of which see one state of the store."""
        with reading(self._engine) as connection:
            yield connection

    # Writing

    def write(self, inspection: Inspection, *, messages: Iterable[Message] = (), run: str | None = None) -> WriteResult:
        """Write an inspection and its messages: all or nothing, and once.

        A record that is in the store already changes nothing. Another record of the same board (serial, product, panel and
        position) is a re-inspection: records are numbered as they arrive, within one run by `inspected_at`.

        Parameters
        ----------
        inspection
            What `inspect_board` returns. Its pictures are not stored.
        messages
            Added to the outbox if the record is new.
        run
            The `id` of a run that `begin_run` stored.
        """
        if self._owner is not None:
            self._owner.claim()
        options = (run, self.time_zone, self.verify_sample)
        return write_inspection(self._engine, self._files, inspection, messages, *options)

    def add_decision(self, decision: Decision, *, messages: Iterable[Message] = ()) -> bool:
        """Add what a person decided about a joint. Return False, and change nothing, if it is in the store already.

        Raises `UsageFault` for an unknown record, joint, state, class or time, and for a state that does not fit the joint, and
        `StageFault` where the operator would overrule the repair station.
        """
        with writing(self._engine) as connection:
            ((_, is_new),) = insert_decisions(connection, [decision], [UNCHECKED], lambda *_: None)
            if is_new:
                add_messages(connection, list(messages))
            return is_new

    def add_decisions(
        self, decisions: Sequence[Decision], seen: Sequence[int | None], make_message: MakeMessage
    ) -> list[tuple[int, bool]]:
        """Add what a person decided about several joints of one record: all, or none. See `verification.insert_decisions`."""
        with writing(self._engine) as connection:
            return insert_decisions(connection, decisions, seen, make_message)

    def audit(self, who: str, action: str, subject: str, *, before: object = None, after: object = None) -> None:
        """Add a row to the audit trail, of something that leaves no other trace in the store. Times are of now."""
        with writing(self._engine) as connection:
            add_audit(connection, time.time_ns() // 1000, who, action, subject, before=before, after=after)

    def add_qualification(self, made: Qualification) -> None:
        """Add an attempt to qualify a machine, passed or not, with a row of the audit trail."""
        with writing(self._engine) as connection:
            add_qualification(connection, made)

    def quarantine(self, found: QuarantinedExport, *, messages: Iterable[Message] = ()) -> bool:
        """Record that an export could not be inspected, with its messages.

        Return False if this content (or path, where the manifest cannot be read) and reason are in the store already; nothing is
        changed then, and no message is added. An entry that was closed is opened again.
        """
        number = found.make_number()
        row = {n: getattr(found, n) for n in ("seen_at", "content")} | {"run_id": found.run, "key": number}
        row |= {n: escape_text(getattr(found, n)) for n in ("path", "reason")}
        row["serial"] = None if found.serial is None else escape_text(found.serial)
        if found.serial is not None and found.serial not in found.path:
            row["reason"] = f"serial {row['serial']}: {row['reason']}"  # for those who read only path and reason
        opened = dict.fromkeys(("closed_at", "closed_by", "note"))
        with writing(self._engine) as connection:
            is_new = insert_new(connection, quarantine, row, "key")
            if is_new:
                add_messages(connection, list(messages))
            else:
                is_this = quarantine.c.key == number
                connection.execute(update(quarantine).where(is_this, quarantine.c.closed_at.is_not(None)).values(opened))
            return is_new

    def close_quarantine(self, number: str, *, by: str, at: str, note: str = "") -> None:
        """Close an entry of the quarantine: a person looked at the board. Raises `UsageFault` if there is no open entry."""
        if not by.strip():
            raise UsageFault("--by", expected="the person who looked at the board", found="nothing")
        values = {"closed_at": at, "closed_by": escape_text(by), "note": escape_text(note)}
        which = (quarantine.c.key == number) & quarantine.c.closed_at.is_(None)
        with writing(self._engine) as connection:
            if not connection.execute(update(quarantine).where(which).values(values)).rowcount:
                raise UsageFault(f"entry {number}", expected="an open entry of the quarantine", found="none of that number")
            add_audit(connection, parse_time_us(at, "at"), by, "quarantine closed", number, after={"note": note})

    def begin_run(self, run: RunRecord) -> None:
        """Record that a run began. A run whose `id` is in the store already continues."""
        row = {n: getattr(run, n) for n in ("id", "command", "software", "started_at")}
        row |= {"arguments": json.dumps(run.arguments, default=str)}
        with writing(self._engine) as connection:
            insert_new(connection, runs, row, "id")

    def end_run(self, run: str, *, finished_at: str, outcome: str) -> None:
        """Record when and how a run ended."""
        with writing(self._engine) as connection:
            connection.execute(update(runs).where(runs.c.id == run).values(finished_at=finished_at, outcome=outcome))

    # Reading

    def has(self, record: str) -> bool:
        """Return whether the record is in the store."""
        return record in self.find_sequences([record])

    def find_sequences(self, records: Sequence[str]) -> dict[str, InspectionSequence]:
        """Return the place of each record among its serial's inspections. Records that are not in the store are left out."""
        with self.reading() as connection:
            return find_sequences(connection, records)

    def board(self, serial: str) -> list[StoredBoard]:
        """Return all records of a serial, the first inspection first. Empty for an unknown serial."""
        with self.reading() as connection:
            return rows.read_boards(connection, serial=escape_text(serial))

    def record(self, record: str) -> StoredBoard | None:
        """Return one record, or None."""
        with self.reading() as connection:
            return next(iter(rows.read_boards(connection, record=record)), None)

    def find_changes(self, since: StoreMark | None) -> tuple[list[str], StoreMark]:
        """Return the records that are new, or about which a person decided, since a mark, and the mark of now.

        Without a mark nothing is new.
        """
        with self.reading() as connection:
            return rows.find_changes(connection, since)

    def inspection(self, record: str) -> Inspection:
        """Return the inspection as it was written, without its pictures. Raises `StoreFault` for an unknown record."""
        return self._read_files(lambda connection: rows.read_inspection(connection, self.require_files(), record))

    def joints(self, *, day: str | None = None, lot: str | None = None, record: str | None = None) -> pa.Table:
        """Return all joints of a day, lot or record; only their files are read.

        The result is an Arrow table of `record` and the declared columns, in order of inspection.
        """

        def read_once(connection: Connection) -> pa.Table:
            paths = rows.find_joint_paths(connection, day=day, lot=lot, record=record)
            return rows.read_joints(self.require_files(), paths)

        return self._read_files(read_once)

    def joint_files(self, *, day: str | None = None, lot: str | None = None) -> list[str]:
        """Return the addresses of the Parquet files that count, for other tools such as DuckDB."""
        with self.reading() as connection:
            located = rows.find_joint_paths(connection, day=day, lot=lot)
        return [self.require_files().address(p) for p in dict.fromkeys(p for _, p in located) if p]

    def queue_of(self, stage: str, *, limit: int = 50, offset: int = 0, search: str = "") -> tuple[int, list[dict[str, Any]]]:
        """Return how many boards wait at a stage of the verification, and some of them. See `queue.read_queue`."""
        with self.reading() as connection:
            return read_queue(connection, stage, limit=limit, offset=offset, search=search)

    def sample(self, record: str) -> list[tuple[str, str, str]]:
        """Return the joints `(refdes, interface, ball)` of a record that passed and that a person looks at."""
        query = select(samples.c.refdes, samples.c.interface, samples.c.ball)
        query = query.join_from(samples, boards, boards.c.id == samples.c.board_id).where(boards.c.record == record)
        with self.reading() as connection:
            return [(row.refdes, row.interface, row.ball) for row in connection.execute(query)]

    def list_audit(self, *, since: str | None = None, limit: int | None = None) -> list[AuditEntry]:
        """Return the audit trail in order, from a time (ISO 8601 with its offset) on. Raises `UsageFault` for another text."""
        try:
            since_us = None if since is None else parse_time_us(since, "since")
        except StoreFault as fault:
            raise UsageFault(fault.thing, expected=fault.expected, found=fault.found) from fault
        with self.reading() as connection:
            return list_audit(connection, since_us=since_us, limit=limit)

    def list_qualifications(self) -> list[Qualification]:
        """Return all attempts to qualify a machine, in the order in which they were made."""
        with self.reading() as connection:
            return list_qualifications(connection)

    def list_qualified(self) -> list[QualifiedMachine]:
        """Return what is qualified: machine, digest of the model, digest of the limits."""
        return name_qualified(self.list_qualifications())

    def list_quarantine(self, *, serial: str | None = None) -> list[QuarantinedExport]:
        """Return the exports that could not be inspected, in order of path and reason; only those of a serial if given."""
        names = ("path", "reason", "seen_at", "run_id", "serial", "content", "closed_at", "closed_by", "note", "key")
        columns = [quarantine.c[n] for n in names]
        query = select(*columns).order_by(*columns[:4], quarantine.c.key)
        query = query if serial is None else query.where(quarantine.c.serial == serial)
        with self.reading() as connection:
            return [QuarantinedExport(*row) for row in connection.execute(query)]

    def runs(self) -> list[RunRecord]:
        """Return all runs, in order of their start."""
        with self.reading() as connection:
            found = connection.execute(select(runs).order_by(runs.c.started_at, runs.c.id)).mappings().all()
        return [RunRecord(**{**row, "arguments": json.loads(row["arguments"])}) for row in found]

    # The outbox
    #
    # A message is added in the transaction of the record that it is about. A sender claims some for a while, sends them, and
    # marks them as delivered or failed. The claim of a sender that dies expires, and its messages are claimed again. Each
    # message is therefore sent at least once, and its id lets the receiver drop a second copy.

    def queue(self, messages: Iterable[Message]) -> int:
        """Add messages that belong to no record. Return how many are new."""
        with writing(self._engine) as connection:
            return sum(insert_new(connection, outbox, make_message_row(m), "id") for m in messages)

    def claim(self, n: int, *, owner: str, now_us: int, lease_s: float = 60.0) -> list[Message]:
        """Claim up to `n` undelivered messages in the order in which they were added.

        A message that another owner has claimed holds back those behind it, until that claim expires: the order stays. A claim
        that ends later than `VOID_AFTER` times `lease_s` from now was made by a clock that was ahead, and is void.

        Parameters
        ----------
        n
            The largest number of messages.
        owner
            The sender's name, for people who look into the database.
        now_us
            The time now in microseconds since 1970.
        lease_s
            How long the claim lasts, in seconds.
        """
        until, longest = outbox.c.claimed_until_us, now_us + round(VOID_AFTER * lease_s * 1e6)
        is_claimed = until.is_not(None) & (until > now_us) & (until <= longest)
        query = select(outbox, is_claimed.label("is_claimed")).where(_WAITS)
        query = query.order_by(outbox.c.seq).limit(n)
        claim = {"claimed_by": owner, "claimed_until_us": now_us + round(lease_s * 1e6), "attempts": outbox.c.attempts + 1}
        with writing(self._engine) as connection:
            if connection.dialect.name == "postgresql":  # two senders that claim at once would overtake each other
                connection.execute(text("SELECT pg_advisory_xact_lock(3, 0)"))
            waiting = connection.execute(query).mappings().all()
            found = list(takewhile(lambda m: not m["is_claimed"], waiting))
            connection.execute(update(outbox).where(outbox.c.seq.in_([m["seq"] for m in found])).values(claim))
        return [_make_message(m, m["attempts"] + 1) for m in found]

    def mark_delivered(self, ids: Iterable[str], *, at: str) -> None:
        """Mark messages as delivered at a time (ISO 8601). One that was marked before keeps its first time."""
        which = outbox.c.id.in_(list(ids)) & outbox.c.delivered_at.is_(None)
        values = {"delivered_at": at, "claimed_by": None, "claimed_until_us": None}
        with writing(self._engine) as connection:
            connection.execute(update(outbox).where(which).values(values))

    def mark_failed(self, ids: Iterable[str], *, error: str, retry_us: int) -> None:
        """Give messages back that could not be sent. No sender claims them before `retry_us` (microseconds since 1970)."""
        which = outbox.c.id.in_(list(ids)) & outbox.c.delivered_at.is_(None)
        values = {"claimed_by": None, "claimed_until_us": retry_us, "last_error": error}
        with writing(self._engine) as connection:
            connection.execute(update(outbox).where(which).values(values))

    def waiting(self, n: int | None = None) -> tuple[int, list[Message]]:
        """Return how many messages wait, claimed or not, and the first `n` of them (None: all). One set aside does not wait."""
        query = select(outbox).where(_WAITS).order_by(outbox.c.seq).limit(n)
        with self.reading() as connection:
            total = connection.scalar(select(func.count()).select_from(outbox).where(_WAITS))
            return int(total or 0), [_make_message(m, m["attempts"]) for m in connection.execute(query).mappings()]

    def list_outbox(self) -> list[OutboxEntry]:
        """Return all messages that are not delivered, in the order in which they were added."""
        query = select(outbox).where(outbox.c.delivered_at.is_(None)).order_by(outbox.c.seq)
        with self.reading() as connection:
            rows = connection.execute(query).mappings().all()
        return [OutboxEntry(_make_message(m, m["attempts"]), m["last_error"], m["set_aside_at"]) for m in rows]

    def set_aside(self, ids: Iterable[str], *, at: str, error: str | None = None) -> int:
        """Set waiting messages aside at a time (ISO 8601): they stay in the outbox, and hold up no other. Return how many.

        `error` is the reason; None keeps the last one.
        """
        which = outbox.c.id.in_(list(ids)) & _WAITS
        values = {"set_aside_at": at, "claimed_by": None, "claimed_until_us": None} | (
            {} if error is None else {"last_error": error}
        )
        with writing(self._engine) as connection:
            return connection.execute(update(outbox).where(which).values(values)).rowcount

    def count_set_aside(self) -> int:
        """Return how many messages are set aside."""
        undelivered = outbox.c.delivered_at.is_(None)
        with self.reading() as connection:
            return int(connection.scalar(select(func.count()).where(undelivered, outbox.c.set_aside_at.is_not(None))) or 0)

    def retry_messages(self, ids: Iterable[str]) -> int:
        """Let messages that were set aside wait again, in their old place. Return how many."""
        which = outbox.c.id.in_(list(ids)) & outbox.c.set_aside_at.is_not(None) & outbox.c.delivered_at.is_(None)
        values = {"set_aside_at": None, "claimed_by": None, "claimed_until_us": None}
        with writing(self._engine) as connection:
            return connection.execute(update(outbox).where(which).values(values)).rowcount

    def forget_delivered(self, before: str) -> int:
        """Delete the messages that were delivered before a day (YYYY-MM-DD). Return how many. Undelivered ones stay.

        Raises `UsageFault` if `before` is not a day.
        """
        try:
            day = date.fromisoformat(before).isoformat()
        except ValueError as error:
            raise UsageFault(f"messages before {before!r}", expected="a day such as 2026-03-01", found=str(error)) from error
        with writing(self._engine) as connection:
            return connection.execute(delete(outbox).where(outbox.c.delivered_at < day)).rowcount

    # Maintenance

    def check_writable(self) -> int:
        """Return the number of undelivered messages if a record could be written now. No record is written.

        Looks at the database, the room on its disk, and the folder of the joint files.
        """
        with writing(self._engine) as connection:
            connection.execute(update(outbox).where(false()).values(attempts=0))  # refused where nothing may be written
            query = select(func.count()).select_from(outbox).where(outbox.c.delivered_at.is_(None))
            n = int(connection.scalar(query) or 0)
        if self._engine.dialect.name == "sqlite":
            file = Path(str(self._engine.url.database))
            with translate_errors(str(file)):
                if shutil.disk_usage(file.parent).free < _LEAST_FREE_BYTES:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self._owner is not None and self._files is not None and self._files.is_near:
            self._owner.claim()
        return n

    def checkpoint(self) -> None:
        """Move SQLite's log into the database file now, rather than during a write that someone waits for."""
        checkpoint(self._engine)

    def accept_lost_files(self) -> None:
        """Go on without the joint files of before, which are lost: their folder becomes this store's, empty as it is."""
        self.require_files()
        if self._owner is not None:
            self._owner.claim(accept_lost=True)

    def compact(self, *, before: str | None = None, largest: int = 1000) -> CompactionResult:
        """Merge the small files of each day and lot, up to `largest` boards per file, only of days before `before` (YYYY-MM-DD).

        Readers see each record once meanwhile. A crash leaves only orphans, which `repair` removes. A record whose file is
        missing or damaged is left as it is.
        """
        return compact_files(self._engine, self.claim_files(), before, largest)

    def repair(self, *, older_than_s: float = 3600.0) -> list[str]:
        """Remove files that a crash left without a record, if unchanged for `older_than_s`. Return their paths below the base.

        In a folder that had files before this store's marker, only later files are removed: earlier ones may be another store's.
        """
        joint_files, since = self.require_files(), None
        if self._owner is not None and not self._owner.claim().began_empty:
            since = joint_files.read_mtime(MARKER)
        return repair_files(self._engine, joint_files, older_than_s, since)

    def prune(
        self,
        *,
        who: str,
        records_days: int | None = None,
        joints_days: int | None = None,
        today: str | None = None,
        dry_run: bool = False,
        remove_page: Callable[[str], object] | None = None,
    ) -> tuple[Pruned, Pruned]:
        """Delete records and joint files that are older than so many days (None: of no age). See `retention`.

        Returns what was deleted, or with `dry_run` would be, by each bound. Raises `UsageFault` for a bad bound or day.
        """
        if self._owner is not None and not dry_run:
            self._owner.claim()
        records = joints = Pruned()
        if records_days is not None:
            first_day = self.find_first_day(records_days, today=today)
            records = prune_records(self._engine, self._files, first_day, who=who, dry_run=dry_run, remove_page=remove_page)
        if joints_days is not None:
            first_day = self.find_first_day(joints_days, today=today)
            joints = prune_joints(self._engine, self.require_files(), first_day, who=who, dry_run=dry_run)
        return records, joints

    def find_first_day(self, days: int, *, today: str | None = None) -> str:
        """Return the first day that is kept. See `retention.find_first_day`."""
        with self.reading() as connection:
            return find_first_day(connection, days, today=today, time_zone=self.time_zone)

    @property
    def keeps_files(self) -> bool:
        """Whether the store keeps files of joints beside its database."""
        return self._files is not None

    def require_files(self) -> JointFiles:
        """Return where the joint files are. Raises `StoreFault` for a store that keeps none."""
        if self._files is None:
            remedy = "Open it with files=, or ?files= in its URL."
            raise StoreFault(self.where, expected="a place for the joints' files", found="none", remedy=remedy)
        return self._files

    def claim_files(self) -> JointFiles:
        """Return where the joint files are, for whoever changes some. Raises `StoreFault` if they are not this store's."""
        joint_files = self.require_files()
        if self._owner is not None:
            self._owner.claim()
        return joint_files

    def _read_files(self, read_once: Callable[[Connection], T]) -> T:
        """Read files whose paths the database gives; again if one of them was merged away meanwhile."""
        for _ in range(_LOOKUPS):
            with self.reading() as connection, suppress(FileNotFoundError):
                return read_once(connection)
        with self.reading() as connection:
            return read_once(connection)


def _make_message(row: RowMapping, attempts: int) -> Message:
    return Message(row["id"], row["kind"], row["payload"], row["created_at"], row["record"], attempts)
