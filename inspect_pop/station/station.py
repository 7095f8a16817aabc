"""What the service's routes work with."""

from dataclasses import dataclass, field

from inspect_pop.errors import PopError
from inspect_pop.station.metrics import Metrics
from inspect_pop.station.pool import Pool
from inspect_pop.station.settings import Settings
from inspect_pop.store import Store

__all__ = ["Station"]


@dataclass
class Station:
    """One running service: how it is set up, its inspecting processes, its store and its counters."""

    settings: Settings
    pool: Pool
    store: Store
    metrics: Metrics = field(default_factory=Metrics)
    stopping: bool = False
    trouble: PopError | None = None  # why it could not start
    fault: str = ""  # what keeps the service from working, for readiness: the last failure to write the store
