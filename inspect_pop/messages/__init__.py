"""The line's language: IPC-2591 CFX 2.1 messages, due with each record, made from it when they are delivered."""

from inspect_pop.messages.cfx import from_decision, from_fault, from_inspection, heartbeat
from inspect_pop.messages.cfx_schema import Envelope
from inspect_pop.messages.publisher import notes

__all__ = ["Envelope", "from_decision", "from_fault", "from_inspection", "heartbeat", "notes"]
