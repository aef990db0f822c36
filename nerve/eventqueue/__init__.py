"""The event queue: one mapped ring per producer, read by the writer; each event is stored once, whoever dies."""

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
