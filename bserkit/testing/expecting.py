"""Expecting: how a check says what does not hold, and how what components make is compared."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator


class CheckError(AssertionError):
    """A component does not keep a rule; the message says which, what was seen and what to do."""


def expect(holds: object, said: str) -> None:
    """Fail unless something holds.

    Raises:
        CheckError: it does not; the message is ``said``.
    """
    if not holds:
        raise CheckError(said)


def expect_same(made: Any, again: Any, said: str) -> None:
    """Expect two things that were made, of any arrays and tensors, to be equal bit for bit."""
    if not same(made, again):
        raise CheckError(f"{said} {_difference(made, again)}")


def expect_near(made: Any, other: Any, said: str, share: float = 1e-4) -> None:
    """Expect two things that were made to differ by no more than this share of the largest number in them."""
    if not near(made, other, share):
        raise CheckError(f"{said} {_difference(made, other)}")


def same(made: Any, again: Any) -> bool:
    """Say whether two things that were made are equal bit for bit."""
    return near(made, again, share=0.0)


def near(made: Any, other: Any, share: float) -> bool:
    """Say whether two things that were made are of one structure and differ by no more than a share of the largest."""
    ones, others = list(_arrays(made)), list(_arrays(other))
    return len(ones) == len(others) and all(_near(*pair, share) for pair in zip(ones, others, strict=True))


def pickled(thing: Any) -> Any:
    """Return what comes of pickling and reading back.

    A file that was loaded anew meanwhile has put classes of the same names in the place of those that are tried.
    """
    cls = type(thing)
    module = sys.modules.get(cls.__module__)
    newer = getattr(module, cls.__qualname__, cls)
    try:
        if newer is not cls:
            setattr(module, cls.__qualname__, cls)
        return pickle.loads(pickle.dumps(thing))  # noqa: S301
    finally:
        if newer is not cls:
            setattr(module, cls.__qualname__, newer)


def copied(given: Any) -> Any:
    """Return a copy of what is given to a component, to compare it with afterwards."""
    return copy.deepcopy(given)


def _near(one: np.ndarray, other: np.ndarray, share: float) -> bool:
    if one.shape != other.shape or one.dtype.kind != other.dtype.kind:
        return False
    if not share or one.dtype.kind not in "fc":
        return bool(np.array_equal(one, other, equal_nan=one.dtype.kind in "fc"))
    largest = max((float(np.abs(values).max(initial=0)) for values in (one, other)), default=0)
    return bool(np.allclose(one, other, rtol=0, atol=share * largest))


def _arrays(made: Any) -> Iterator[np.ndarray]:
    """Yield every array, tensor and plain value of something nested, in order."""
    if isinstance(made, Mapping):
        for name in made:
            yield np.asarray(name)
            yield from _arrays(made[name])
    elif isinstance(made, list | tuple):
        for one in made:
            yield from _arrays(one)
    elif is_dataclass(made):
        for one in fields(made):
            yield from _arrays(getattr(made, one.name))
    elif hasattr(made, "detach"):
        yield made.detach().cpu().numpy()
    else:
        yield np.asarray(made)


def _difference(made: Any, other: Any) -> str:
    """Say how two things differ that are not the same."""
    ones, others = list(_arrays(made)), list(_arrays(other))
    if [one.shape for one in ones] != [one.shape for one in others]:
        shapes = (", ".join(str(one.shape) for one in some) for some in (ones, others))
        return f"One is {next(shapes)}, the other {next(shapes)}."
    floats = [(one, two) for one, two in zip(ones, others, strict=True) if one.dtype.kind == two.dtype.kind == "f"]
    with np.errstate(invalid="ignore"):
        largest = max((float(np.abs(one - two).max(initial=0)) for one, two in floats), default=0.0)
    return f"They differ by up to {largest:.3g}."
