"""The event queue: a mapped ring per producer to the one writer, exactly once whoever dies, also everybody at once."""

from nerve.eventqueue.lane import Lane
from nerve.eventqueue.messages import Conclude, Done, Order, Purge, Record, Vacuum
from nerve.eventqueue.orders import OrderClient, OrderServer, PendingOrder
from nerve.eventqueue.receiver import EventReceiver, Gathered, LaneBacklog
from nerve.eventqueue.sender import EventSender, Unguarded
from nerve.eventqueue.wakeup import Wakeup

__all__ = [
    "Conclude",
    "Done",
    "EventReceiver",
    "EventSender",
    "Gathered",
    "Lane",
    "LaneBacklog",
    "Order",
    "OrderClient",
    "OrderServer",
    "PendingOrder",
    "Purge",
    "Record",
    "Unguarded",
    "Vacuum",
    "Wakeup",
]
