"""The event queue: one mapped ring per producer, read by the writer; each event is stored once, whoever dies."""

from nerve.eventqueue.lane import Lane
from nerve.eventqueue.receiver import EventReceiver, Gathered, LaneBacklog
from nerve.eventqueue.sender import EventSender, Unguarded
from nerve.eventqueue.wakeup import Wakeup

__all__ = ["EventReceiver", "EventSender", "Gathered", "Lane", "LaneBacklog", "Unguarded", "Wakeup"]
