"""Whether the store can be written now, for `/readyz` and `/metrics`: asked, not remembered, and bounded in time.

One look at a time, in a thread of its own: a database that hangs holds up neither the event loop nor the other threads.
"""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from inspect_pop.core.errors import StoreFault
from inspect_pop.store import Store

__all__ = ["StoreProbe", "StoreState"]

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
