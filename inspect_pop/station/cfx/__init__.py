"""The line's language: IPC-2591 CFX 2.1 messages, made from inspections, kept in the store until they are delivered."""

from inspect_pop.station.cfx.build import from_decision, from_fault, from_inspection, heartbeat
from inspect_pop.station.cfx.messages import Envelope

__all__ = ["Envelope", "from_decision", "from_fault", "from_inspection", "heartbeat"]
