"""One inspection through the pool: to whichever process is free, and to quarantine where it ends without an answer."""

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime

from inspect_pop.core.errors import BusyFault, DeadlinePassed, PopError, StoreFault
from inspect_pop.messages import from_fault
from inspect_pop.station.access import Station
from inspect_pop.station.answer import Answer, could_not
from inspect_pop.station.handler import UNAVAILABLE, UNUSABLE
from inspect_pop.station.pool import Died, Job
from inspect_pop.store import Quarantined

__all__ = ["TOO_LATE", "Said", "refused", "work"]

TOO_LATE = 504
STORE_RETRY_S = 5  # a full disk or a locked database is somebody's to mend
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Said:
    """What is said about one board: HTTP status, the hook's object, headers."""

    status: int
    answer: Answer
    headers: dict[str, str] = field(default_factory=dict)


async def work(here: Station, job: Job) -> Said:
    """Have one job done. `job["name"]` is what quarantine calls the board."""
    try:
        reply = await here.pool.submit(job)
    except BusyFault as fault:
        here.metrics.busy.inc()
        return refused(UNAVAILABLE, fault, {"Retry-After": str(here.pool.retry_after_s)})
    except (DeadlinePassed, Died) as fault:
        return await _quarantine(here, job["name"], fault)
    said = reply["answer"]
    here.fault = said["reason"] if reply["status"] == UNAVAILABLE else ""
    if reply["status"] == UNUSABLE:
        here.metrics.quarantined.labels(said["problem"]["about"]).inc()
    headers = {"Retry-After": str(STORE_RETRY_S)} if reply["status"] == UNAVAILABLE else {}
    if "ms" in reply:
        headers["Server-Timing"] = ", ".join(f"{part};dur={took:.1f}" for part, took in reply["ms"].items())
    return Said(reply["status"], said, headers)


def refused(status: int, fault: PopError, headers: dict[str, str] | None = None) -> Said:
    """The answer of a board that was not inspected because of this fault."""
    return Said(status, could_not(fault), headers or {})


async def _quarantine(here: Station, name: str, fault: PopError) -> Said:
    log.error("a board stopped its inspecting process", extra={"board": name, "reason": str(fault)})
    here.metrics.quarantined.labels(fault.about).inc()
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    message = from_fault(name, str(fault), fault.about, at, here.settings.cfx_handle)
    try:
        await asyncio.to_thread(here.store.quarantine, Quarantined(name, str(fault), at), messages=[message])
    except StoreFault as unwritten:
        log.error("the store cannot be written", extra={"reason": str(unwritten)})
        here.fault = str(unwritten)
    return refused(TOO_LATE if isinstance(fault, DeadlinePassed) else UNUSABLE, fault)
