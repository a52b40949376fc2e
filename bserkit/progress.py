"""What long work says while it goes on, kept apart from how it is shown."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

_LOG = logging.getLogger("bserkit")


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


class Silent:
    """Shows nothing."""

    def say(self, text: str) -> None:
        """Drop the text."""

    @contextmanager
    def stage(self, name: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        """Count for nobody."""
        yield lambda done: None


class Unstaged(Silent):
    """Shows to another reporter what is said, and no stages: it is used inside of one."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter

    def say(self, text: str) -> None:
        """Show a finding or a notice."""
        self.reporter.say(text)


class Logged:
    """Writes to the log ``bserkit``: notices, and each stage when it is done."""

    def say(self, text: str) -> None:
        """Log a finding or a notice."""
        _LOG.info("%s", text)

    @contextmanager
    def stage(self, name: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        """Log a stage of ``total`` units when it is done."""
        began = time.monotonic()
        yield lambda done: None
        _LOG.info("%s: %d %s in %.1f s", name, total, unit, time.monotonic() - began)
