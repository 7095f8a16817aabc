"""Store inspections once and permanently, and find them again at once.

SQLite or PostgreSQL holds what is queried often. Parquet files beside it hold every joint's measurements.
"""

from inspect_pop.store.accounts import Qualification
from inspect_pop.store.joint_files import CompactionResult
from inspect_pop.store.rows import extract_defects
from inspect_pop.store.store import Store, open_store
from inspect_pop.store.types import (
    DECISION_STATES,
    STAGES,
    UNCHECKED,
    Decision,
    DefectRecord,
    InspectionSequence,
    Message,
    OutboxEntry,
    QuarantinedExport,
    RunRecord,
    StoredBoard,
    StoreMark,
    WriteResult,
)

__all__ = [
    "DECISION_STATES",
    "STAGES",
    "UNCHECKED",
    "CompactionResult",
    "Decision",
    "DefectRecord",
    "InspectionSequence",
    "Message",
    "OutboxEntry",
    "Qualification",
    "QuarantinedExport",
    "RunRecord",
    "Store",
    "StoreMark",
    "StoredBoard",
    "WriteResult",
    "extract_defects",
    "open_store",
]
