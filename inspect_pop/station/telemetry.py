"""Logs that machines read: one JSON object a line on standard error, without headers, tokens or bodies.

What a Prometheus server can ask of the service.
"""

import json
import logging
import sys
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["JsonLines", "Metrics", "to_stderr"]

# ---- station/logs
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "color_message", "taskName"}


class JsonLines(logging.Formatter):
    """Time, level, logger, message, whatever was given as `extra`, and the traceback of an exception."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {key: value for key, value in record.__dict__.items() if key not in _STANDARD}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def to_stderr(level: int = logging.INFO) -> None:
    """Send all logs there, uvicorn's among them."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)


# ---- station/metrics
# Seconds; a board of 820 joints takes some tenths, the default time limit is 30.
BUCKETS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)


class Metrics:
    """Counters of one service, in a registry of their own."""

    def __init__(self) -> None:
        own = self.registry = CollectorRegistry()
        self.latency = Histogram("inspect_pop_inspection_seconds", "Request to answer", buckets=BUCKETS, registry=own)
        self.verdicts = Counter("inspect_pop_verdicts", "Boards answered, by verdict", ["verdict"], registry=own)
        self.quarantined = Counter("inspect_pop_quarantined", "Boards not inspected, by what was wrong", ["about"], registry=own)
        self.busy = Counter("inspect_pop_busy", "Requests answered 'busy'", registry=own)
        self.requests = Counter("inspect_pop_requests", "Requests, by route and status", ["route", "status"], registry=own)
        self.waiting = Gauge("inspect_pop_queue_waiting", "Inspections that wait", registry=own)
        self.workers = Gauge("inspect_pop_workers_alive", "Inspecting processes with the present model", registry=own)
        self.working = Gauge("inspect_pop_workers_busy", "Inspecting processes with a board in hand", registry=own)
        self.outbox = Gauge("inspect_pop_outbox_waiting", "Messages not delivered yet", registry=own)
        self.model = Gauge("inspect_pop_model_info", "1 for the model in use", ["digest"], registry=own)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
