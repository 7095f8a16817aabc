"""Where inspections are kept: once, for good, found again in an instant.

SQLite or PostgreSQL holds what is asked for often; Parquet files beside it hold every joint's measurements.
"""

from inspect_pop.store.maintain import Compacted
from inspect_pop.store.rows import defects_in
from inspect_pop.store.store import Store, open_store
from inspect_pop.store.types import STATES, Decision, Defect, Message, Quarantined, Run, Standing, StoredBoard, Written

__all__ = [
    "STATES",
    "Compacted",
    "Decision",
    "Defect",
    "Message",
    "Quarantined",
    "Run",
    "Standing",
    "Store",
    "StoredBoard",
    "Written",
    "defects_in",
    "open_store",
]
