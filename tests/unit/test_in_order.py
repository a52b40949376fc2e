"""What several threads make comes in order, bounded, and an error where it belongs."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from bserkit.features.preparing import in_order


def counted(length, at=lambda _: None):
    for number in range(length):
        at(number)
        yield length, number


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("ahead", [1, 3, 50])
def test_what_is_given_comes_in_order(threads, ahead):
    lengths = [0, 1, 3, 6, 0, 7, 40, 2]
    with ThreadPoolExecutor(threads) as pool:
        found = list(in_order(map(counted, lengths), pool, 3, ahead))
    assert found == [(length, number) for length in lengths for number in range(length)]


def test_no_more_is_held_than_was_asked_for():
    made = threading.Semaphore(0)
    total, begun, ahead = 0, 3, 5
    with ThreadPoolExecutor(4) as pool:
        given = in_order((counted(40, lambda _: made.release()) for _ in range(10)), pool, begun, ahead)
        for taken, _ in enumerate(given):
            time.sleep(0.001)
            while made.acquire(blocking=False):
                total += 1
            # What was yielded, what waits of each, and what the one that is yielded from is at.
            assert total <= taken + begun * ahead + ahead
    assert total == 400


def test_an_iterator_is_in_one_thread_at_a_time():
    class Alone:
        inside = 0

        def __iter__(self):
            return self

        def __next__(self):
            self.inside += 1
            time.sleep(0.002)
            assert self.inside == 1
            self.inside -= 1
            return self

    with ThreadPoolExecutor(4) as pool:
        given = in_order(iter([Alone()]), pool, 4, 2)
        assert len({id(next(given)) for _ in range(20)}) == 1


def test_an_error_comes_after_what_was_before_it():
    def broken(length):
        yield from counted(length)
        raise ValueError("broken")

    found = []
    with ThreadPoolExecutor(2) as pool, pytest.raises(ValueError, match="broken"):
        found.extend(in_order(iter([counted(3), broken(0), counted(5)]), pool, 3, 2))
    given = in_order(iter([counted(3), broken(0)]), ThreadPoolExecutor(2), 3, 2)
    assert [next(given) for _ in range(3)] == [(3, 0), (3, 1), (3, 2)]
