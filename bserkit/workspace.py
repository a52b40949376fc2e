"""A workspace: what all work is done with, whatever the work is."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from bserkit.progress import Reporter, Silent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bserkit.store import FeatureStore

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


@dataclass(frozen=True)
class Workspace:
    """Where results of work are kept, who is told of it, and what does it.

    Attributes:
        store: keeps features, networks and facts of recordings.
        reporter: shows progress and notices; nothing by default.
    """

    store: FeatureStore
    reporter: Reporter = field(default_factory=Silent)

    def telling(self, reporter: Reporter) -> Workspace:
        """Return the same workspace with another reporter."""
        return replace(self, reporter=reporter)

    def each(self, name: str, work: Callable[[_Given], _Made], given: Sequence[_Given], unit: str) -> list[_Made]:
        """Do the same to each, in threads, several at a time, as a stage of that name; the results keep the order.

        An error or an interrupt is told at once, whatever the other threads are at.
        """
        done: list[_Made] = []
        pool = ThreadPoolExecutor(os.cpu_count())
        try:
            with self.reporter.stage(name, len(given), unit) as advance:
                for one in pool.map(work, given):
                    done.append(one)
                    advance(1)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return done
