"""IPC-2591 CFX 2.1 messages to the line: noted in the record's transaction, rendered from the record when they are sent."""

from inspect_pop.messages.cfx import from_decision, from_fault, from_inspection, from_verification, make_heartbeat
from inspect_pop.messages.cfx_schema import Envelope
from inspect_pop.messages.publisher import pending_messages

__all__ = [
    "Envelope",
    "from_decision",
    "from_fault",
    "from_inspection",
    "from_verification",
    "make_heartbeat",
    "pending_messages",
]
