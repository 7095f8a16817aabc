"""The watch over the inspection machines: gauges and alarms while the station runs, and the page that shows them."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import HTMLResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from inspect_pop.core.clock import utc_now
from inspect_pop.core.errors import StoreFault, UsageFault
from inspect_pop.messages.cfx import from_drift
from inspect_pop.station.access import NOT_FOUND_RESPONSE, REFUSAL_RESPONSES, StationDep, require
from inspect_pop.station.station import Station
from inspect_pop.verify.words import read_page
from inspect_pop.yields.machines import read_machines, require_machine

__all__ = ["MachineWatch", "machines", "watch_machines"]

EVERY_S = 60.0
SHARE = 0.01  # of a core, at most: after a look that takes long the next one comes later
STOP_S = 5.0
log = logging.getLogger(__name__)
machines = APIRouter(tags=["machines"])


class MachinesBody(BaseModel):
    """The machines of the store's latest boards, the most urgent first (`inspect-pop machines list --json`)."""

    machines: list[dict[str, Any]]


class MachineBody(BaseModel):
    """One machine with its boards (`of`) and the charts of its figures (`inspect-pop machines show --json`)."""

    machine: dict[str, Any]
    of: list[dict[str, Any]]
    charts: list[dict[str, Any]]


class MachineWatch:
    """Looks at the store's machines: sets the gauges, and adds a CFX message for each drift that is new.

    Args:
        station: Whose store and metrics they are.
    """

    def __init__(self, station: Station) -> None:
        self._station, self._end = station, threading.Event()
        self._sent: set[tuple[str, str, str]] = set()
        self._thread = threading.Thread(target=self._run, name="machine-watch", daemon=True)

    def start(self) -> None:
        """Look now, and again from time to time."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._end.set()
        self._thread.join(STOP_S)

    def look(self) -> None:
        """Look once. Raises `StoreFault`."""
        metrics, handle, store = self._station.metrics, self._station.settings.cfx_handle, self._station.store
        found = read_machines(store)
        for gauge, state in ((metrics.drifting, "drifting"), (metrics.unfamiliar, "unfamiliar")):
            gauge.clear()
            for machine in found:
                gauge.labels(machine.machine).set(machine.state == state)
        for machine in found:
            for drift in machine.drifts:
                key = (machine.machine, drift.figure, drift.since)
                if key not in self._sent:
                    log.warning("a machine drifts", extra={"machine": machine.machine, "figure": str(drift)})
                    store.queue([from_drift(*key[:2], str(drift), drift.since, utc_now(), handle)])
                    self._sent.add(key)

    def _run(self) -> None:
        wait_s = 0.0
        while not self._end.wait(wait_s):
            started = time.monotonic()
            try:
                self.look()
            except StoreFault as fault:
                log.warning("the machines were not looked at", extra={"reason": str(fault)})
            wait_s = max(EVERY_S, (time.monotonic() - started) / SHARE)


@contextlib.asynccontextmanager
async def watch_machines(station: Station) -> AsyncIterator[None]:
    """Watch the machines while the block runs."""
    watch = MachineWatch(station)
    watch.start()
    try:
        yield
    finally:
        await asyncio.to_thread(watch.stop)


@machines.get("/v1/machines", responses=REFUSAL_RESPONSES, dependencies=[Depends(require("read"))])
async def list_machines(station: StationDep) -> MachinesBody:
    """Return every machine with its state, since when, and by what figure."""
    found = await asyncio.to_thread(read_machines, station.store)
    return MachinesBody(machines=[machine.to_dict() for machine in found])


@machines.get(
    "/v1/machines/charts",
    responses=REFUSAL_RESPONSES | NOT_FOUND_RESPONSE,
    dependencies=[Depends(require("read"))],
)
async def show_machine(station: StationDep, name: Annotated[str, Query(max_length=400)]) -> MachineBody:
    """Return a machine's figures over time, each with what is usual and its control limit. `name` is line and station."""

    def find() -> MachineBody:
        try:
            machine = require_machine(read_machines(station.store), name)
        except UsageFault as fault:
            raise HTTPException(404, str(fault)) from fault
        return MachineBody(machine=machine.to_dict(), of=machine.list_boards(), charts=machine.draw_charts())

    return await asyncio.to_thread(find)


@machines.get("/machines", include_in_schema=False, dependencies=[Depends(require("read"))])
async def show_machines_page() -> HTMLResponse:
    """Return the page of the machines."""
    return HTMLResponse(read_page("machines"))
