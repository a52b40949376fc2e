"""The two kinds of failure a user can meet; both carry one finished paragraph and need no traceback."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class BserkitError(Exception):
    """A run could not be done; the message says what was given, what was expected and what to do."""

    exit_code = 1


class UsageError(BserkitError):
    """What was asked for cannot be done as asked; nothing was started."""

    exit_code = 2


def is_interrupt(error: BaseException) -> bool:
    """Say whether an error is an interrupt, or what a library that was at work made of one.

    >>> try:
    ...     try:
    ...         raise KeyboardInterrupt
    ...     finally:
    ...         raise OSError("closed half-way")
    ... except OSError as error:
    ...     is_interrupt(error), is_interrupt(OSError())
    (True, False)
    """
    found: BaseException | None = error
    while found is not None and not isinstance(found, KeyboardInterrupt):
        found = found.__cause__ or found.__context__
    return found is not None


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the closest known word, or nothing when none is close.

    >>> nearest("blok-max", ["block-max", "block-avg"])
    " (did you mean 'block-max'?)"
    """
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
