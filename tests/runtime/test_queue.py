"""The keyed queue, in virtual time."""

import asyncio

import pytest

from nightshift.runtime.queue import FIRST_BACKOFF_SECONDS, LAST_BACKOFF_SECONDS, KeyedQueue
from tests.support.virtual_time import run


def now() -> float:
    return asyncio.get_running_loop().time()


def test_keys_come_when_they_are_due_and_in_that_order() -> None:
    async def story() -> list[tuple[str, float]]:
        queue: KeyedQueue[str] = KeyedQueue()
        for key, delay in (("late", 30.0), ("now", 0.0), ("soon", 2.0)):
            queue.add(key, delay)
        return [(await queue.get(), now()) for _ in range(3)]

    assert run(story()) == [("now", 0.0), ("soon", 2.0), ("late", 30.0)]


def test_keys_that_are_due_together_come_as_they_were_asked_for() -> None:
    async def story() -> list[str]:
        queue: KeyedQueue[str] = KeyedQueue()
        for key in ("b", "a", "c"):
            queue.add(key)
        return [await queue.get() for _ in range(3)]

    assert run(story()) == ["b", "a", "c"]


@pytest.mark.parametrize(("first", "second", "due"), [(10.0, 1.0, 1.0), (1.0, 10.0, 1.0), (5.0, 5.0, 5.0)])
def test_the_earliest_due_time_of_a_key_counts_and_it_comes_once(first: float, second: float, due: float) -> None:
    async def story() -> tuple[float, int]:
        queue: KeyedQueue[str] = KeyedQueue()
        queue.add("a", first)
        queue.add("a", second)
        await queue.get()
        found = now()
        queue.done("a", failed=False)
        await asyncio.sleep(100)
        return found, queue.depth()

    assert run(story()) == (due, 0)


def test_a_waiting_worker_is_woken_by_an_earlier_key() -> None:
    async def story() -> tuple[str, float]:
        queue: KeyedQueue[str] = KeyedQueue()
        queue.add("late", 60.0)
        asyncio.get_running_loop().call_later(5, queue.add, "early")
        return await queue.get(), now()

    assert run(story()) == ("early", 5.0)


def test_a_key_that_is_worked_on_waits_until_that_is_done_and_others_do_not() -> None:
    async def story() -> list[tuple[str, float]]:
        queue: KeyedQueue[str] = KeyedQueue()
        seen = []
        queue.add("a")
        seen.append((await queue.get(), now()))
        queue.add("a")
        queue.add("b")
        seen.append((await queue.get(), now()))
        asyncio.get_running_loop().call_later(7, queue.done, "a", False)
        seen.append((await queue.get(), now()))
        return seen

    assert run(story()) == [("a", 0.0), ("b", 0.0), ("a", 7.0)]


def test_a_key_is_never_with_two_workers_and_none_is_lost() -> None:
    async def story() -> dict[str, int]:
        queue: KeyedQueue[str] = KeyedQueue()
        busy: set[str] = set()
        served = dict.fromkeys("abc", 0)

        async def work() -> None:
            while True:
                key = await queue.get()
                assert key not in busy, "two workers have the same key"
                busy.add(key)
                await asyncio.sleep(0.3)
                busy.remove(key)
                served[key] += 1
                queue.done(key, failed=False)

        workers = [asyncio.create_task(work()) for _ in range(4)]
        for _ in range(40):
            for key in served:
                queue.add(key)
            await asyncio.sleep(0.1)
        await asyncio.sleep(5)
        for worker in workers:
            worker.cancel()
        results = await asyncio.gather(*workers, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results), results
        assert queue.depth() == 0
        return served

    assert all(10 <= count <= 16 for count in run(story()).values())


def test_failures_are_tried_later_each_time_until_one_succeeds() -> None:
    async def story() -> list[float]:
        queue: KeyedQueue[str] = KeyedQueue()
        queue.add("a")
        waits, last = [], 0.0
        for _ in range(14):
            await queue.get()
            waits.append(now() - last)
            last = now()
            queue.done("a", failed=True)
        assert queue.failures("a") == 14
        await queue.get()
        queue.done("a", failed=False)
        assert queue.failures("a") == 0
        queue.add("a")
        await queue.get()
        last = now()
        queue.done("a", failed=True)
        await queue.get()
        return [*waits, now() - last]

    waits = run(story())
    assert waits[:3] == [0.0, FIRST_BACKOFF_SECONDS, 1.0]
    assert waits[10:14] == [256.0, LAST_BACKOFF_SECONDS, LAST_BACKOFF_SECONDS, LAST_BACKOFF_SECONDS]
    assert waits[14] == FIRST_BACKOFF_SECONDS, "a success makes the next failure the first one"


def test_an_event_during_the_backoff_is_not_held_back() -> None:
    async def story() -> float:
        queue: KeyedQueue[str] = KeyedQueue()
        queue.add("a")
        for _ in range(10):
            await queue.get()
            queue.done("a", failed=True)
        started = now()
        queue.add("a")
        await queue.get()
        return now() - started

    assert run(story()) == 0.0


def test_depth_and_waiting_time_count_what_is_due_and_not_worked_on() -> None:
    async def story() -> list[tuple[int, float]]:
        queue: KeyedQueue[str] = KeyedQueue()
        found = [(queue.depth(), queue.overdue_seconds())]
        queue.add("a")
        queue.add("b", 100.0)
        await asyncio.sleep(3)
        found.append((queue.depth(), queue.overdue_seconds()))
        await queue.get()
        found.append((queue.depth(), queue.overdue_seconds()))
        queue.add("a")
        await asyncio.sleep(9)
        found.append((queue.depth(), queue.overdue_seconds()))
        return found

    assert run(story()) == [(0, 0.0), (1, 3.0), (0, 0.0), (1, 0.0)]
