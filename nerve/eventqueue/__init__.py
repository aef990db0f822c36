"""The event queue: a lane per producer to the one writer, exactly once across the death of any one process."""

from nerve.eventqueue.lane import Lane
from nerve.eventqueue.messages import Conclude, Done, Order, Purge, Record, Vacuum
from nerve.eventqueue.receiver import EventReceiver, Gathered, PendingOrder
from nerve.eventqueue.sender import EventSender, Unguarded

__all__ = [
    "Conclude",
    "Done",
    "EventReceiver",
    "EventSender",
    "Gathered",
    "Lane",
    "Order",
    "PendingOrder",
    "Purge",
    "Record",
    "Unguarded",
    "Vacuum",
]
