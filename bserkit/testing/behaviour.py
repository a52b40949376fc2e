"""Behaviour: what must hold of whatever a component makes, whatever its kind."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bserkit.component import Component
from bserkit.testing.expecting import copied, expect, expect_same, pickled

#: How many threads ask at a time, and how often each does so.
_THREADS, _TIMES = 4, 4


@dataclass(frozen=True)
class Kind:
    """How the components of a kind are tried.

    Attributes:
        given: returns a sample to give to a component, drawn from a seed.
        made: returns what a component makes of a sample, by its own methods, nothing being copied on the way.
        checks: yields what must hold of a component of this kind alone, each a function of it.
        threads: says whether a component may be called in several threads at a time.
    """

    contract: type[Component]
    given: Callable[[Any, int], Any]
    made: Callable[[Any, Any], Any]
    checks: Callable[[Any], Iterable[Callable[[Any], None]]]
    threads: Callable[[Any], bool]


def makes_the_same_twice(component: Component, kind: Kind) -> None:
    """Two calls give the same bits, whatever was made of another sample between them."""
    first = kind.made(component, kind.given(component, 0))
    kind.made(component, kind.given(component, 1))
    again = kind.made(component, kind.given(component, 0))
    expect_same(
        first,
        again,
        f"{component.kind} {component.name} made two things of one sample. Give every random choice a seed that is a "
        "parameter, and keep nothing from one call to the next.",
    )


def makes_the_same_in_threads(component: Component, kind: Kind) -> None:
    """Calls in several threads at a time give what each gives alone."""
    alone = [kind.made(component, kind.given(component, seed)) for seed in range(_THREADS)]
    together = threading.Barrier(_THREADS)

    def ask(seed: int) -> list[Any]:
        given = [kind.given(component, seed) for _ in range(_TIMES)]
        together.wait()
        with _giving_way(type(component)):
            return [kind.made(component, one) for one in given]

    with ThreadPoolExecutor(_THREADS) as pool:
        made = list(pool.map(ask, range(_THREADS)))
    for expected, several in zip(alone, made, strict=True):
        for one in several:
            expect_same(
                expected,
                one,
                f"{component.kind} {component.name} made something else while other threads called it too. Keep what a "
                "call works on in its own variables, not in the class or the module.",
            )


def leaves_its_input(component: Component, kind: Kind) -> None:
    """What a component is given is as it was afterwards."""
    given = kind.given(component, 0)
    before = copied(given)
    kind.made(component, given)
    expect_same(
        before,
        given,
        f"{component.kind} {component.name} wrote into what it was given. bserkit hands copies over, but others may "
        "not: work on a copy.",
    )


def holds_no_state(component: Component, kind: Kind) -> None:
    """A component is the same recipe after use, and holds nothing but its parameters."""
    before = pickled(component)
    kind.made(component, kind.given(component, 0))
    own = {name for name, value in vars(Component).items() if isinstance(value, cached_property)}
    held = sorted(set(vars(component)) - set(type(component).model_fields) - own)
    expect(
        not held and before == component,
        f"{component.kind} {component.name} was changed by its use{': it holds ' if held else ''}{', '.join(held)}. "
        "A component is a recipe: what it makes of it belongs into what it returns.",
    )


#: The checks of this module but that of threads.
SHARED: tuple[Callable[[Component, Kind], None], ...] = (makes_the_same_twice, leaves_its_input, holds_no_state)


@contextmanager
def _giving_way(component: type[Component]) -> Iterator[None]:
    """Let other threads go on before each line of the component's module, so that what they share shows."""
    own = getattr(sys.modules.get(component.__module__), "__file__", None)

    def on_line(frame: Any, event: str, value: Any) -> Any:
        time.sleep(0)
        return on_line

    usual = sys.gettrace()
    sys.settrace(lambda frame, event, value: on_line if frame.f_code.co_filename == own else None)
    try:
        yield
    finally:
        sys.settrace(usual)
