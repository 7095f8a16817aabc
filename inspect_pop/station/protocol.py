"""HTTP/1.1 connections that must say something: half-open and slow ones are closed, and too many at once.

uvicorn times a connection only between requests; here one that has not sent a whole request head in time is closed, and
where there are too many connections, the one that has been silent longest makes room.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["timed_protocol"]


def timed_protocol(header_s: float, connections: int) -> type[H11Protocol]:
    """uvicorn's protocol class with a time for the request head and a bound on connections."""

    class TimedProtocol(H11Protocol):
        """One connection."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._silent_since = self.loop.time()
            self._head_timer = self.loop.call_later(header_s, self._close_if_waiting)
            if len(self.connections) > connections:
                _close_oldest(self.connections)

        def connection_lost(self, exc: Exception | None) -> None:
            self._head_timer.cancel()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            answered = self.cycle
            super().data_received(data)
            if self.cycle is not answered:
                self._head_timer.cancel()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._silent_since = self.loop.time()
            self._head_timer.cancel()
            self._head_timer = self.loop.call_later(self.timeout_keep_alive + header_s, self._close_if_waiting)

        @property
        def waits_for_head(self) -> bool:
            """Whether no request is being answered here."""
            return self.cycle is None or self.cycle.response_complete

        def _close_if_waiting(self) -> None:
            if self.waits_for_head and not self.transport.is_closing():
                self.transport.close()

    return TimedProtocol


def _close_oldest(connections: set[Any]) -> None:
    silent = [c for c in connections if getattr(c, "waits_for_head", False) and not c.transport.is_closing()]
    if silent:
        min(silent, key=lambda c: c._silent_since).transport.close()
