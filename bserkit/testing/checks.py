"""Checks: the rules that the built-in components keep, asked of any component or plugin."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from bserkit.component import Component
from bserkit.corpora.reading import CorpusReader
from bserkit.plugins.registry import Source, load_plugins
from bserkit.testing import backbones, behaviour, channels, corpora, frontends, learners, plugins, poolers, recipes
from bserkit.testing.behaviour import Kind
from bserkit.testing.plugins import Plugin

#: How the components of each kind are tried.
KINDS: tuple[Kind, ...] = (
    corpora.KIND,
    channels.KIND,
    frontends.KIND,
    backbones.KIND,
    poolers.KIND,
    *learners.KINDS,
)
#: What may be checked: a component, a class of one, an imported plugin, or the file of one.
Checked = Component | type[Component] | ModuleType | Path


@dataclass(frozen=True)
class Check:
    """One rule, to be asked of one component or plugin.

    Calling it raises ``CheckError``, or whatever the component raises, where the rule does not hold, and
    ``unittest.SkipTest`` where it cannot be asked.

    Attributes:
        name: of the rule, such as ``makes-the-same-twice``.
        rule: what must hold, in a sentence.
        subject: what it is asked of, such as ``pooler block-max:blocks=3``.
        about: the class of the component; None of a plugin as a whole.
        source: the plugin that it came from, where that is known.
    """

    name: str
    rule: str
    subject: str
    about: type[Component] | None
    source: Source | None
    ask: Callable[[], None]

    def __call__(self) -> None:
        """Ask."""
        self.ask()

    def place(self, error: BaseException) -> str:
        """Say of a failure where it is: the plugin, the component, and the file and line of its code."""
        file = inspect.getsourcefile(self.about) if self.about else None
        line = inspect.getsourcelines(self.about)[1] if self.about and file else 0
        # The last line of the component's own code that was at work, or else where its class begins.
        frames = [one for one in traceback.extract_tb(error.__traceback__) if one.filename == file]
        code = f"{file}, line {frames[-1].lineno if frames else line}" if file else ""
        plugin = f"plugin {self.source.name} ({self.source.location})" if self.source and self.about else ""
        return "; ".join(filter(None, [plugin, self.subject, code]))

    def __str__(self) -> str:
        return f"{self.subject}: {self.name}"


def checks_of(thing: Checked, data: Path | None = None) -> Iterator[Check]:
    """Yield every check of a component, or of a plugin and each of its components.

    >>> from bserkit.plugins.builtin.poolers import GlobalMax
    >>> next(checks_of(GlobalMax())).name
    'has-a-name'

    Args:
        thing: a ``Path`` is that of a single-file plugin, or of a folder of such. A class is made by its defaults, a
            required parameter by the first of its ``Field(examples=[...])``.
        data: a corpus that readers of corpora are tried on too.
    """
    if isinstance(thing, Path):
        loaded = load_plugins([thing])
        for source in loaded.outside:
            if Path(source.location).is_relative_to(thing.resolve()):
                yield from plugin_checks(Plugin(source, loaded), data)
    elif isinstance(thing, ModuleType):
        loaded = load_plugins(modules=[thing])
        (source,) = (one for one in loaded.sources if one.module == thing.__name__)
        yield from plugin_checks(Plugin(source, loaded), data)
    elif isinstance(thing, Component):
        yield from component_checks(thing, data)
    else:
        yield from component_checks(recipes.example_of(thing), data)


def parametrize_with_checks(things: Iterable[Checked], data: Path | None = None) -> Any:
    """Return pytest's decorator that runs a test, which takes ``check`` and calls it, with every check of some things.

    Example:
        .. code-block:: python

            @parametrize_with_checks([my_plugin, MyPooler(blocks=3)])
            def test_my_plugin(check):
                check()
    """
    import pytest

    return pytest.mark.parametrize("check", [one for thing in things for one in checks_of(thing, data)], ids=str)


def plugin_checks(plugin: Plugin, data: Path | None = None) -> Iterator[Check]:
    """Yield the checks of a plugin, and of each of its components."""
    yield from whole_checks(plugin)
    for component in plugin.components:
        yield _check(recipes.can_be_made, f"{component.kind} {component.name}", component, plugin.source, component)
        for made in recipes.examples_of([component]):
            yield from component_checks(made, data, plugin.source)


def whole_checks(plugin: Plugin) -> Iterator[Check]:
    """Yield the checks of a plugin as a whole; of one that could not be loaded that it cannot."""
    gone = plugin.failures and not plugin.components
    for rule in (plugins.loads,) if gone else plugins.CHECKS:
        yield _check(rule, f"plugin {plugin.source.name}", None, plugin.source, plugin)


def component_checks(component: Component, data: Path | None = None, source: Source | None = None) -> Iterator[Check]:
    """Yield the checks of a component.

    Args:
        source: the plugin that it came from.
    """

    def check(rule: Callable[..., None], *given: Any) -> Check:
        return _check(rule, f"{component.kind} {component.spec}", type(component), source, component, *given)

    for rule in recipes.CHECKS:
        yield check(rule)
    for kind in KINDS:
        if isinstance(component, kind.contract):
            yield from (check(rule) for rule in kind.checks(component))
            yield from (check(rule, kind) for rule in behaviour.SHARED)
            if kind.threads(component):
                yield check(behaviour.makes_the_same_in_threads, kind)
    if data is not None and isinstance(component, CorpusReader):
        yield from (check(rule, data) for rule in corpora.WITH_DATA)


def _check(
    rule: Callable[..., None], subject: str, about: type[Component] | None, source: Source | None, *given: Any
) -> Check:
    said = " ".join((rule.__doc__ or "").split())
    return Check(rule.__name__.replace("_", "-"), said, subject, about, source, partial(rule, *given))
