"""What long work says while it goes on, kept apart from how it is shown."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


class Reporter(Protocol):
    """Shows a user what is going on."""

    def say(self, text: str) -> None:
        """Show a finding or a notice."""

    def stage(self, name: str, total: int, unit: str) -> AbstractContextManager[Callable[[int], None]]:
        """Open a stage of ``total`` units; the function that it gives counts those done."""


class Silent:
    """Shows nothing."""

    def say(self, text: str) -> None:
        """Drop the text."""

    @contextmanager
    def stage(self, name: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        """Count for nobody."""
        yield lambda done: None
