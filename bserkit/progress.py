"""What long work says while it goes on, kept apart from how it is shown."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


class Reporter(Protocol):
    """Shows a user what is going on."""

    def say(self, text: str) -> None:
        """Show a finding or a notice."""

    def stage(self, name: str, total: int, unit: str) -> AbstractContextManager[Callable[[int], None]]:
        """Open a stage of ``total`` units; the function that it gives counts those done."""


class Numbered:
    """Shows to another reporter what is said, behind a text such as ``3/8``."""

    def __init__(self, reporter: Reporter, number: str) -> None:
        self.reporter, self.number = reporter, number

    def say(self, text: str) -> None:
        """Show a finding or a notice."""
        self.reporter.say(f"{self.number}{text}")

    def stage(self, name: str, total: int, unit: str) -> AbstractContextManager[Callable[[int], None]]:
        """Open a stage."""
        return self.reporter.stage(f"{self.number}{name}", total, unit)


class Unstaged:
    """Shows to another reporter what is said, and no stages: it is used inside of one."""

    def __init__(self, reporter: Reporter) -> None:
        self.say = reporter.say

    @contextmanager
    def stage(self, name: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        """Count for nobody."""
        yield lambda done: None


class Silent:
    """Shows nothing."""

    def say(self, text: str) -> None:
        """Drop the text."""

    @contextmanager
    def stage(self, name: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        """Count for nobody."""
        yield lambda done: None


def in_threads(
    name: str, work: Callable[[_Given], _Made], given: Sequence[_Given], unit: str, reporter: Reporter
) -> list[_Made]:
    """Do the same to each, several at a time; the results keep the order."""
    done: list[Any] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool, reporter.stage(name, len(given), unit) as advance:
        try:
            for one in pool.map(work, given):
                done.append(one)
                advance(1)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return done
