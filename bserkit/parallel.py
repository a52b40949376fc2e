"""Work on many things at once."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bserkit.progress import Reporter

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


def in_threads(
    name: str, work: Callable[[_Given], _Made], given: Sequence[_Given], unit: str, reporter: Reporter
) -> list[_Made]:
    """Do the same to each, several at a time; the results keep the order.

    An error or an interrupt is told at once, whatever the other threads are at.
    """
    done: list[_Made] = []
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        with reporter.stage(name, len(given), unit) as advance:
            for one in pool.map(work, given):
                done.append(one)
                advance(1)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return done
