"""Which run a thread belongs to: the one that started it, for as long as it lives."""

from __future__ import annotations

import _thread
import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from nerve.runtime.run_of_thread import ThreadRuns


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadRuns]:
    """The runs of the threads of this process, while `disk/1` is performed."""
    monkeypatch.setattr(threading.Thread, "start", threading.Thread.start)
    made = ThreadRuns()
    made.install()
    made.begin("disk/1")
    yield made
    made.begin(None)


def in_thread(act: Callable[[], object]) -> None:
    """Act in a thread, and wait for its end."""
    thread = threading.Thread(target=act)
    thread.start()
    thread.join(10)


def test_a_thread_belongs_to_the_run_that_started_it(threads: ThreadRuns) -> None:
    """So do the threads that it starts in turn, also during a later run: a timer that starts itself again does so."""
    found: list[str | None] = [threads.of_this_thread()]
    go_on = threading.Event()

    def outlive() -> None:
        go_on.wait(10)
        found.append(threads.of_this_thread())
        in_thread(lambda: found.append(threads.of_this_thread()))

    thread = threading.Thread(target=outlive)
    thread.start()
    threads.begin("other/2")
    go_on.set()
    thread.join(10)
    found.append(threads.of_this_thread())
    in_thread(lambda: found.append(threads.of_this_thread()))
    threads.begin(None)
    assert found == ["disk/1"] * 3 + ["other/2"] * 2
    assert threads.of_this_thread() is None


def test_a_pool_of_threads_of_an_earlier_run_belongs_to_none(threads: ThreadRuns) -> None:
    """It may work for any run that knows it."""
    with ThreadPoolExecutor(1) as pool:
        during = pool.submit(threads.of_this_thread).result(10)
        threads.begin("other/2")
        assert [during, pool.submit(threads.of_this_thread).result(10)] == ["disk/1", None]


def test_work_that_a_coroutine_hands_to_a_thread_belongs_to_its_run(threads: ThreadRuns) -> None:
    """`asyncio.to_thread` and tasks take the run along, whichever thread performs them."""

    async def compute() -> list[str | None]:
        async def task() -> str | None:
            return threads.of_this_thread()

        return [await asyncio.to_thread(threads.of_this_thread), await asyncio.create_task(task())]

    assert asyncio.run(compute()) == ["disk/1", "disk/1"]


def test_a_thread_that_python_s_threading_did_not_start_belongs_to_no_run(threads: ThreadRuns) -> None:
    """It could have been started in any run."""
    found: list[str | None] = []
    done = threading.Event()

    def act() -> None:
        found.append(threads.of_this_thread())
        done.set()

    _thread.start_new_thread(act, ())
    assert done.wait(10)
    assert found == [None]
