"""The line's language: IPC-2591 CFX 2.1 messages, due with each record, made from it when they are delivered."""

from inspect_pop.station.cfx.build import from_decision, from_fault, from_inspection, heartbeat
from inspect_pop.station.cfx.later import notes
from inspect_pop.station.cfx.messages import Envelope

__all__ = ["Envelope", "from_decision", "from_fault", "from_inspection", "heartbeat", "notes"]
