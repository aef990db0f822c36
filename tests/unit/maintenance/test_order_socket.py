"""The archiver's orders: each is answered to who gave it, or known to be unanswered as soon as that is sure."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from support.eventqueue import Call, listen, short_folder
from support.waiting import wait_until

from nerve.maintenance import order_socket as orders
from nerve.maintenance.order_socket import OrderClient, OrderServer
from nerve.store.archive.order_messages import Done, Purge, Vacuum

PURGE = Purge(1, "2026-11-23", 5)


class Serving:
    """A writer's end that is turned by hand, or by a thread."""

    def __init__(self, listener: socket.socket) -> None:
        self.reports: list[str] = []
        self._selector = selectors.DefaultSelector()
        self.server = OrderServer(listener, self._selector, self.reports.append)

    def turn(self) -> None:
        """Handle whatever is ready now."""
        for key, _mask in self._selector.select(0):
            key.data()

    def until_pending(self, count: int = 1) -> None:
        """Turn until so many orders have come."""
        wait_until(lambda: self.turn() or len(self.server.pending) >= count, "orders have come")

    def close(self) -> None:
        """Hang up on everybody."""
        self.server.close()
        self._selector.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for sockets."""
    with short_folder() as made:
        yield made


@pytest.fixture
def listener(folder: Path) -> Iterator[socket.socket]:
    """The socket, which outlives writers."""
    with listen(folder / "orders") as made:
        yield made


@pytest.fixture
def serving(listener: socket.socket) -> Iterator[Serving]:
    """A writer's end."""
    with closing(Serving(listener)) as made:
        yield made


@pytest.fixture
def client(folder: Path) -> Iterator[OrderClient]:
    """An archiver's end."""
    with closing(OrderClient(folder / "orders")) as made:
        yield made


def test_orders_wait_in_line_and_are_answered(serving: Serving, folder: Path) -> None:
    """Each answer goes to who asked, over and over by the same connection."""
    with ExitStack() as stack:
        one, two = (stack.enter_context(closing(OrderClient(folder / "orders"))) for _ in range(2))
        for _ in range(2):
            first = Call(one.ask, PURGE, 10)
            serving.until_pending(1)
            second = Call(two.ask, Vacuum(1), 10)
            serving.until_pending(2)
            assert [pending.order for pending in serving.server.pending] == [PURGE, Vacuum(1)]
            serving.server.answer(serving.server.pending[0], Done(1, 5))
            serving.server.answer(serving.server.pending[0], Done(1, 0, "no room"))
            assert (first.result(), second.result()) == (Done(1, 5), Done(1, 0, "no room"))
        assert not serving.server.pending


def test_an_order_waits_for_a_writer_but_not_for_long(folder: Path) -> None:
    """Without one there is no answer."""
    with closing(OrderClient(folder / "nowhere")) as client:
        assert client.ask(PURGE, 0.05) is None


def test_an_order_finds_a_writer_that_comes_later(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks need not know when a writer is started again."""
    looked = threading.Event()
    monkeypatch.setattr(orders.time, "sleep", lambda _seconds: looked.set())
    with closing(OrderClient(folder / "orders")) as client:
        call = Call(client.ask, PURGE, 10)
        assert looked.wait(10)
        with listen(folder / "orders") as listener, closing(Serving(listener)) as serving:
            serving.until_pending()
            serving.server.answer(serving.server.pending[0], Done(1, 5))
            assert call.result() == Done(1, 5)


def test_an_order_that_takes_too_long_is_given_up(serving: Serving, client: OrderClient) -> None:
    """Its answer, if one comes, is not taken for that to the next order."""
    assert client.ask(PURGE, 0.05) is None
    serving.until_pending()
    late = serving.server.pending[0]
    serving.server.answer(late, Done(1, 5))
    call = Call(client.ask, Purge(1, "2026-11-24", 9), 10)
    wait_until(
        lambda: serving.turn() or [p.order for p in serving.server.pending] == [Purge(1, "2026-11-24", 9)],
        "the next order has come",
    )
    serving.server.answer(serving.server.pending[0], Done(1, 9))
    assert call.result() == Done(1, 9)


def test_an_order_ends_with_the_writer_that_had_it(
    serving: Serving, client: OrderClient, listener: socket.socket
) -> None:
    """Whoever asked is told at once that there is no answer, and can ask the next writer."""
    call = Call(client.ask, PURGE, 3600)
    serving.until_pending()
    serving.close()
    assert call.result() is None
    with closing(Serving(listener)) as successor:
        call = Call(client.ask, PURGE, 10)
        successor.until_pending()
        successor.server.answer(successor.server.pending[0], Done(1, 5))
        assert call.result() == Done(1, 5)


def test_orders_go_with_their_sender(serving: Serving, client: OrderClient) -> None:
    """Nobody would take the answer."""
    assert client.ask(PURGE, 0.05) is None
    serving.until_pending()
    wait_until(lambda: serving.turn() or not serving.server.pending, "the order is dropped")
    assert serving.reports == []


def test_who_breaks_the_rules_is_disconnected_and_reported(serving: Serving, folder: Path, client: OrderClient) -> None:
    """The others never notice."""
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(folder / "orders"))
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        wait_until(lambda: serving.turn() or serving.reports, "it is reported")
        assert stranger.recv(10) == b""
    call = Call(client.ask, PURGE, 10)
    serving.until_pending()
    serving.server.answer(serving.server.pending[0], Done(1, 5))
    assert call.result() == Done(1, 5)


def test_another_user_gives_no_orders(serving: Serving, client: OrderClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection is refused, and reported."""
    monkeypatch.setattr(orders, "same_user", lambda _sock, _uid: False)
    call = Call(client.ask, PURGE, 10)
    wait_until(lambda: serving.turn() or serving.reports, "it is reported")
    assert call.result() is None
    assert "another user" in serving.reports[0]
