"""One running station, the probe of its store, and how long it keeps what it made.

The store is probed once at a time, in a thread of its own: a database that hangs holds up neither the event loop nor the other
threads.
"""

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from inspect_pop.core import errors
from inspect_pop.core.errors import BusyFault, DeadlineFault, PopError, StoreFault, describe_error
from inspect_pop.core.system import utc_now
from inspect_pop.ingest import identify_board
from inspect_pop.messages import from_fault
from inspect_pop.station.contract import (
    EXIT_STATUS,
    Answer,
    StationSetup,
    find_embedded_file,
    locate_pages,
    make_error_answer,
    write_setup,
)
from inspect_pop.station.pool import Job, Pool, WorkerDied
from inspect_pop.station.settings import ServiceSettings
from inspect_pop.station.trainer import Trainer
from inspect_pop.station.worker import locate_page
from inspect_pop.store import QuarantinedExport, Store, open_store
from inspect_pop.store.retention import Pruned, find_old_records

__all__ = [
    "STORE_RETRY_S",
    "InspectionReply",
    "Metrics",
    "PrunedStation",
    "Station",
    "StoreProbe",
    "StoreState",
    "prune_station",
    "refuse",
]

FRESH_S = 0.1  # one look serves all who ask within this time: anybody may ask, and a look locks the store for a moment
PATIENCE_S = 3.0  # a probe of a balancer waits some seconds


@dataclass(frozen=True)
class StoreState:
    """What a look at the store found.

    Attributes:
        fault: Why it cannot be written; empty if it can.
        waiting: Number of messages that are not delivered; None if it cannot be read.
        set_aside: Number of messages that the receiver refused for good; None if it cannot be read.
        is_new: Whether this look ended after the caller asked, so that an earlier failure is over.
    """

    fault: str
    waiting: int | None = None
    set_aside: int | None = None
    is_new: bool = False


class StoreProbe:
    """Looks at a store for whoever asks."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store-probe")
        self._look: asyncio.Future[StoreState] | None = None
        self._state, self._at = StoreState("the store was not asked yet"), -FRESH_S

    async def find_state(self) -> StoreState:
        """Return the state of the store: of the last look, or of a new one, for which it waits some seconds."""
        if self._look is None:
            if time.monotonic() - self._at < FRESH_S:
                return replace(self._state, is_new=False)
            self._look = asyncio.get_running_loop().run_in_executor(self._thread, self._try)
            self._look.add_done_callback(self._keep)
        done, _ = await asyncio.wait([self._look], timeout=PATIENCE_S)
        if not done:
            return StoreState(f"the store has not answered for {PATIENCE_S:g} s")
        return self._state

    def close(self) -> None:
        """Start no more looks."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _try(self) -> StoreState:
        try:
            return StoreState("", self._store.check_writable(), self._store.count_set_aside(), is_new=True)
        except StoreFault as fault:
            return StoreState(str(fault), is_new=True)

    def _keep(self, look: "asyncio.Future[StoreState]") -> None:
        self._look = None
        if not look.cancelled() and look.exception() is None:
            self._state, self._at = look.result(), time.monotonic()


# How long a station's records, joint files and pages are kept.


@dataclass(frozen=True)
class PrunedStation:
    """What was deleted, or would be: by the bound of records, of joint files, and the number of pages by that of pages."""

    records: Pruned
    joints: Pruned
    pages: int
    waiting_pages: int


def prune_station(
    url: str,
    *,
    who: str,
    records_days: int | None = None,
    joints_days: int | None = None,
    pages_days: int | None = None,
    today: str | None = None,
    dry_run: bool = False,
) -> PrunedStation:
    """Delete what is older than so many days (None: of no age). A deleted record's page goes with it. See `store.retention`.

    Raises `UsageFault` for a bound or day that is none, `StoreFault` where something cannot be read or removed.
    """
    folder = locate_pages(url)

    def find_page(record: str) -> Path | None:
        page = None if folder is None else locate_page(Path(folder), record)
        return page if page is not None and page.is_file() else None

    def remove_page(record: str) -> None:
        page = find_page(record)
        try:
            if page is not None:
                page.unlink(missing_ok=True)
        except OSError as error:
            raise StoreFault(str(page), expected="a page that can be removed", found=describe_error(error)) from error

    with open_store(url, must_exist=True) as store:
        pages: list[str] = []
        waiting: list[str] = []
        if pages_days is not None:
            first_day = store.find_first_day(pages_days, today=today)
            with store.reading() as connection:
                found = find_old_records(connection, first_day)
            pages, waiting = ([record for record in records if find_page(record) is not None] for records in found)
            for record in () if dry_run else pages:
                remove_page(record)
            if pages and not dry_run:
                store.audit(who, "pages deleted", f"before {first_day}", before={"records": pages})
        records, joints = store.prune(
            who=who,
            records_days=records_days,
            joints_days=joints_days,
            today=today,
            dry_run=dry_run,
            remove_page=remove_page,
        )
    return PrunedStation(records, joints, len(pages), len(waiting))


# One running station: its settings, inspecting processes, store and metrics, and the way of one inspection through them.


STORE_RETRY_S = 5  # a full disk or a locked database needs a person
# Seconds; a board of 820 joints takes some tenths, the default time limit is 30.
BUCKETS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
# What a board may go to quarantine for: `about` of each declared error.
_CAUSES = sorted({k.about for k in vars(errors).values() if isinstance(k, type) and issubclass(k, PopError)})
log = logging.getLogger(__name__)


class Metrics:
    """The metrics of one station for Prometheus, in a registry of their own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.latency = Histogram("inspect_pop_inspection_seconds", "From request to answer", buckets=BUCKETS, registry=registry)
        self.verdicts = Counter("inspect_pop_verdicts", "Boards answered, by verdict", ["verdict"], registry=registry)
        self.quarantined = Counter("inspect_pop_quarantined", "Boards not inspected, by cause", ["about"], registry=registry)
        for verdict in EXIT_STATUS:  # a series that begins with its first event hides it from `increase`
            self.verdicts.labels(verdict)
        for cause in _CAUSES:
            self.quarantined.labels(cause)
        self.busy = Counter("inspect_pop_busy", "Requests answered 'busy'", registry=registry)
        self.requests = Counter("inspect_pop_requests", "Requests, by route and status", ["route", "status"], registry=registry)
        self.waiting = Gauge("inspect_pop_queue_waiting", "Inspections in the queue", registry=registry)
        self.workers = Gauge("inspect_pop_workers_alive", "Inspecting processes with the current model", registry=registry)
        self.working = Gauge("inspect_pop_workers_busy", "Inspecting processes that work on a board", registry=registry)
        self.outbox = Gauge("inspect_pop_outbox_waiting", "Messages not yet delivered", registry=registry)
        self.store = Gauge("inspect_pop_store_up", "1 if the store can be written", registry=registry)
        self.set_aside = Gauge("inspect_pop_outbox_set_aside", "Messages that the receiver refused", registry=registry)
        self.drifting = Gauge(
            "inspect_pop_machine_drifting", "1 for a machine that drifts, else 0", ["machine"], registry=registry
        )
        self.unfamiliar = Gauge(
            "inspect_pop_machine_unfamiliar",
            "1 for a machine whose pictures are unlike what was learnt, and that is not qualified, else 0",
            ["machine"],
            registry=registry,
        )
        self.model = Gauge("inspect_pop_model_info", "1 for the current model", ["digest"], registry=registry)

    def to_text(self) -> bytes:
        """Return the metrics in Prometheus's text format."""
        return generate_latest(self.registry)


@dataclass(frozen=True)
class InspectionReply:
    """What the service replies for one board: HTTP status, answer, headers."""

    status: int
    answer: Answer
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Station:
    """One running station.

    Attributes:
        settings: How it is set up.
        pool: The inspecting processes.
        store: Where records go.
        metrics: What Prometheus reads.
        is_stopping: Whether it takes no more boards.
        start_fault: Why it could not start.
        secret: By which it proves to hooks that it is the station; empty: it cannot.
        setup: By what it judges, as hooks without it must; None until its processes run.
        store_fault: The last failure to write the store, until a write or a look at it succeeds; empty if none. It makes the
            station not ready.
        folder_fault: Why the watched folder cannot be looked at; empty if it can.
    """

    settings: ServiceSettings
    pool: Pool
    store: Store
    metrics: Metrics = field(default_factory=Metrics)
    is_stopping: bool = False
    start_fault: PopError | None = None
    secret: str = ""
    setup: StationSetup | None = None
    store_fault: str = ""
    folder_fault: str = ""

    def leave_setup(self, start_model: str | None, start_digest: str, roots: tuple[str, ...]) -> None:
        """Write next to the store by what the inspecting processes judge.

        For a database server the file is for this user's hooks on this machine; without it they judge by their options.

        Raises:
            StoreFault: It cannot be written next to an embedded store.
        """
        options = self.settings.judging
        self.setup = StationSetup(options, self.pool.rules, roots, start_model, start_digest)
        try:
            write_setup(self.settings.store, self.setup)
        except StoreFault as fault:
            if find_embedded_file(self.settings.store) is not None:
                raise
            log.warning("the station's setup was not written; use no hook without the service", extra={"reason": str(fault)})

    async def take_model(self, folder: str) -> str:
        """Judge by another model from now on, also after a restart and without the service; return its digest.

        Raises:
            ModelFault: The model cannot be used; nothing changes.
            StoreFault: The model is in use, but a restart will not know it.
        """
        qualified = [list(m) for m in await asyncio.to_thread(self.store.list_qualified)] or None
        digest = await self.pool.swap(model=folder, qualified=qualified)
        log.info("the service judges by another model", extra={"model": folder, "digest": digest})
        if self.setup is not None:
            options = replace(self.setup.options, model=folder, qualified=qualified)
            self.setup = replace(self.setup, options=options, rules=self.pool.rules)
            await asyncio.to_thread(write_setup, self.settings.store, self.setup)
        return digest

    def __post_init__(self) -> None:
        self.store_probe = StoreProbe(self.store)
        self.trainer = Trainer(self.settings.store)

    def find_model(self) -> Path:
        """Return the folder of the model that the station judges by. Raises `ModelFault` if there is none."""
        from inspect_pop.classify.model import find_current_model, resolve

        taken = self.setup.options.model if self.setup is not None else None
        named = Path(taken) if taken else self.settings.model
        return find_current_model() if named is None else resolve(named)

    async def find_store_state(self) -> StoreState:
        """Return whether the store can be written now. A store that can clears the last failure to write it."""
        state = await self.store_probe.find_state()
        if state.is_new and self.store_fault and not state.fault:
            log.info("the store can be written again")
            self.store_fault = ""
        return state if state.fault or not self.store_fault else replace(state, fault=self.store_fault)

    async def inspect(self, job: Job) -> InspectionReply:
        """Inspect one board in the next free process; quarantine it if the process ends without an answer.

        Args:
            job: See `InspectionHandler.handle`; `job["name"]` is the board's name in quarantine.
        """
        try:
            reply = await self.pool.submit(job)
        except BusyFault as fault:
            self.metrics.busy.inc()
            return refuse(HTTPStatus.SERVICE_UNAVAILABLE, fault, {"Retry-After": str(self.pool.retry_after_s)})
        except (DeadlineFault, WorkerDied) as fault:
            await self._quarantine(job, fault)
            is_late = isinstance(fault, DeadlineFault)
            return refuse(HTTPStatus.GATEWAY_TIMEOUT if is_late else HTTPStatus.UNPROCESSABLE_ENTITY, fault)
        answer, headers = reply["answer"], {}
        self.store_fault = ""
        if reply["status"] == HTTPStatus.SERVICE_UNAVAILABLE:
            self.store_fault = answer["reason"]
            headers["Retry-After"] = str(STORE_RETRY_S)
        if reply["status"] == HTTPStatus.UNPROCESSABLE_ENTITY:
            self.metrics.quarantined.labels(answer["problem"]["about"]).inc()
        if "ms" in reply:
            headers["Server-Timing"] = ", ".join(f"{part};dur={took:.1f}" for part, took in reply["ms"].items())
        return InspectionReply(reply["status"], answer, headers)

    async def _quarantine(self, job: Job, fault: PopError) -> None:
        name = job["name"]
        serial, content = await asyncio.to_thread(identify_board, Path(job["path"]))
        log.error("an inspecting process ended on a board", extra={"board": name, "reason": str(fault)})
        self.metrics.quarantined.labels(fault.about).inc()
        at = utc_now()
        handle = self.settings.cfx_handle
        message = from_fault(name, str(fault), fault.about, at, handle, serial=serial, content=content)
        entry = QuarantinedExport(name, str(fault), at, serial=serial, content=content)
        try:
            await asyncio.to_thread(self.store.quarantine, entry, messages=[message])
        except StoreFault as store_fault:
            log.error("the store cannot be written", extra={"reason": str(store_fault)})
            self.store_fault = str(store_fault)


def refuse(status: int, fault: PopError, headers: dict[str, str] | None = None) -> InspectionReply:
    """Return the reply for a board that was not inspected because of a fault."""
    return InspectionReply(status, make_error_answer(fault), headers or {})
