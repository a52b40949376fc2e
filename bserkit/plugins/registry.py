"""Plugins: finding components, keeping a broken plugin from breaking anything else, and naming where each came from."""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import re
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeVar, cast

import pluggy
from pydantic import BaseModel

from bserkit.component import Component, Spec, build, is_name, parse_specs
from bserkit.corpora.protocols import FORMER_NAMES, PROTOCOLS, Protocol
from bserkit.corpora.reading import CorpusReader
from bserkit.errors import UsageError, nearest
from bserkit.features.backbones import Backbone
from bserkit.features.channels import ChannelTransform
from bserkit.features.finetuning import FINETUNES, Sgd
from bserkit.features.frontends import Frontend
from bserkit.features.pooling import Pooler
from bserkit.identity.meaning import code_of
from bserkit.identity.modules import PROJECT, forget
from bserkit.learning.classifiers import Classifier
from bserkit.learning.fusion import Fuser
from bserkit.learning.normalising import Normaliser
from bserkit.plugins import hooks
from bserkit.plugins.builtin import BUILTIN_MODULES
from bserkit.plugins.importing import files_of, guarded, named_files, plugin_files, plugin_name, real
from bserkit.plugins.importing import import_file as import_file
from bserkit.plugins.importing import module_name as module_name

if TYPE_CHECKING:
    from types import ModuleType

#: The contract behind each hook.
CONTRACTS: Mapping[str, type[Component]] = {
    "bserkit_corpora": CorpusReader,
    "bserkit_channels": ChannelTransform,
    "bserkit_frontends": Frontend,
    "bserkit_backbones": Backbone,
    "bserkit_poolers": Pooler,
    "bserkit_normalisers": Normaliser,
    "bserkit_classifiers": Classifier,
    "bserkit_fusers": Fuser,
}
#: Every kind of component, in the data's order.
KINDS: tuple[str, ...] = (*(contract.kind for contract in CONTRACTS.values()), Sgd.kind, Protocol.kind)

#: What the source of bserkit's own components is called.
BUILT_IN = "built-in"

_Component = TypeVar("_Component", bound=Component)


@dataclass(frozen=True)
class Source:
    """Where components came from.

    Attributes:
        name: ``built-in``, a distribution's entry point or a file's name.
        location: what a user would open or uninstall.
        version: a distribution's version, or the first digits of the SHA-256 of its file, or its package's files.
        module: the name of the imported module; empty where it could not be imported.
        distribution: the name of the distribution; empty for a file.
    """

    name: str
    location: str
    version: str
    module: str = field(default="", compare=False)
    distribution: str = field(default="", compare=False)

    @property
    def qualifier(self) -> str:
        """What may stand before the name of one of its components, as in ``bserkit-band/block-max``."""
        return re.sub(r"[^\w.-]+", "-", self.distribution or self.name)

    def __str__(self) -> str:
        return f"{self.name} ({self.location})"

    @property
    def is_outside(self) -> bool:
        """Whether it is a plugin rather than a part of bserkit."""
        return self.name != BUILT_IN


@dataclass(frozen=True)
class Failure:
    """A plugin, or one hook of it, that could not be used, and why.

    Attributes:
        trace: the traceback, where it raised something.
    """

    source: Source
    reason: str
    trace: str = ""


@dataclass(frozen=True)
class Registered:
    """A component class and the plugin that it came from."""

    component: type[Component]
    source: Source

    @property
    def qualified(self) -> str:
        """The name that is its own among those of all plugins."""
        return f"{self.source.qualifier}/{self.component.name}"


@dataclass(frozen=True)
class Plugins:
    """Every component that was found, every source it was looked for in, and every failure on the way."""

    registered: tuple[Registered, ...]
    sources: tuple[Source, ...]
    failures: tuple[Failure, ...]

    @property
    def outside(self) -> list[Source]:
        """Every plugin that is not built in, those that failed to load included."""
        found = dict.fromkeys([*self.sources, *(failure.source for failure in self.failures)])
        return [source for source in found if source.is_outside]

    def of_kind(self, kind: str) -> dict[str, list[Registered]]:
        """Return what is registered of a kind, by name, those of bserkit first."""
        found: dict[str, list[Registered]] = {}
        for one in self.registered:
            if one.component.kind == kind:
                found.setdefault(one.component.name, []).append(one)
        return dict(sorted(found.items()))

    def clashes(self) -> list[list[Registered]]:
        """Return those of one kind that have a name in common."""
        kinds = dict.fromkeys(one.component.kind for one in self.registered)
        return [several for kind in kinds for several in self.of_kind(kind).values() if len(several) > 1]

    def choices(self, kind: str) -> dict[str, Registered]:
        """Return each component of a kind by the name to ask for it, where there is one."""
        every = [(self.name_of(one), one) for several in self.of_kind(kind).values() for one in several]
        twice = {name for name, count in Counter(name for name, _ in every).items() if count > 1}
        return {name: one for name, one in sorted(every, key=lambda row: row[0]) if name not in twice}

    def name_of(self, one: Registered) -> str:
        """Return the name to ask for a component by: its own where that means no other one."""
        several = self.of_kind(one.component.kind)[one.component.name]
        return one.component.name if _meant(several) == [one] else one.qualified

    def registered_of(self, component: Component) -> Registered:
        """Return what a component was made of."""
        known = (one for one in self.registered if one.component is type(component))
        return next(known, None) or self.find(component.kind, component.known_as)

    def find(self, kind: str, name: str) -> Registered:
        """Return the one component of this kind and name.

        bserkit's own has its name, whatever plugins call theirs; ``plugin/name`` is that of one plugin.

        Raises:
            UsageError: there is none, or two plugins claim the name.
        """
        qualifier, _, plain = name.rpartition("/")
        several = self.of_kind(kind).get(FORMER_NAMES.get(plain, plain) if kind == Protocol.kind else plain, [])
        found = [one for one in several if one.source.qualifier == qualifier] if qualifier else _meant(several)
        if not found:
            known = self.choices(kind)
            failed = "; ".join(f"{failure.source.name}: {failure.reason}" for failure in self.failures)
            near = nearest(name, [*known, *(one.qualified for one in several)])
            raise UsageError(
                f"There is no {kind} named {name!r}{near}. Known: {', '.join(known)}."
                + (f" Plugins that failed to load: {failed}." if failed else "")
            )
        if len(found) > 1:
            places = " and ".join(str(one.source) for one in found)
            names = list(dict.fromkeys(one.qualified for one in found))
            way_out = f"Ask for {' or '.join(names)}" if len(names) == len(found) else "Rename one, remove one"
            raise UsageError(
                f"The {kind} {name!r} is claimed by {places}. {way_out}, or leave outside plugins out with "
                "--no-plugins."
            )
        return found[0]

    def make(self, contract: type[_Component], spec: Spec | str) -> _Component:
        """Make a component of the contract's kind from its spelling.

        Raises:
            UsageError: the name or a parameter is not known, or does not fit.
        """
        if isinstance(spec, str):
            specs = parse_specs(spec)
            if len(specs) > 1:
                raise UsageError(f"One {contract.kind} was expected, but {spec!r} names {len(specs)}.")
            spec = specs[0]
        found = self.find(contract.kind, spec.name)
        if found.source.is_outside:
            # Its identity is the code that was loaded, whatever becomes of the files later.
            code_of(found.component)
        made = cast("_Component", build(found.component, spec))
        # It is spelt as it was asked for, so that the spelling finds it again.
        made.__dict__["known_as"] = spec.name if found.source.is_outside else found.component.name
        return made

    def files_of(self, components: Iterable[Component]) -> dict[str, str]:
        """Return the text of each file of the plugins that are not installed and that some components come from.

        Returns it by its path in a folder of plugins; where two plugins have one, in folders by their versions.
        """
        found: dict[str, str] = {}
        for source in dict.fromkeys(map(self.source_of, components)):
            path = Path(source.location)
            if source.module != module_name(path):
                continue
            own = {str(PurePosixPath(name)): one.read_text("utf-8", "replace") for name, one in named_files(path)}
            twins = [name for name in own if found.get(name, own[name]) != own[name]]
            found |= {f"{source.version}/{name}": text for name, text in own.items()} if twins else own
        return found

    def knowing(self, component: type[Component]) -> Plugins:
        """Return these and a class that was written in the program, such as in a notebook, rather than in a plugin."""
        if any(one.component is component for one in self.registered):
            return self
        source = Source("program", component.__module__, code_of(component).digest[:12])
        contract = next((one for one in CONTRACTS.values() if issubclass(component, one)), Component)
        if problem := _problem(component, contract):
            raise UsageError(f"{component.__name__} cannot be used: {problem}.")
        return replace(
            self, registered=(*self.registered, Registered(component, source)), sources=(*self.sources, source)
        )

    def source_of(self, component: Component) -> Source:
        """Return the plugin that a component came from."""
        return self.registered_of(component).source


def load_plugins(folders: Iterable[Path] = (), outside: bool = True, modules: Iterable[ModuleType] = ()) -> Plugins:
    """Load built-ins, then entry points, then the files of the named folders, by name, then modules.

    Args:
        folders: folders of plugins, whose every ``.py`` file and package is loaded unless its name begins with ``_``;
            or one of these.
        outside: false leaves out everything but the built-ins.
        modules: plugins that were imported already; one that is an entry point too counts once.

    Raises:
        UsageError: a named folder or file does not exist.
    """
    loader = _Loader()
    version = importlib.metadata.version("bserkit")
    for module in BUILTIN_MODULES:
        loader.add(module, Source(BUILT_IN, module.__name__, version))
    loader.registered += [
        Registered(component, Source(BUILT_IN, component.__module__, version)) for component in (*FINETUNES, *PROTOCOLS)
    ]
    if outside:
        for entry in sorted(importlib.metadata.entry_points(group=PROJECT), key=lambda entry: entry.name):
            distribution = entry.dist.name if entry.dist else "unknown distribution"
            found = entry.dist.version if entry.dist else "unknown"
            source = Source(entry.name, f"{distribution}, {entry.value}", found, distribution=distribution)
            loader.load(source, entry.load)
        for folder in folders:
            is_file = folder.suffix == ".py" and folder.is_file()
            if not is_file and not folder.is_dir():
                raise UsageError(
                    f"The plugins folder {folder} does not exist; --plugins-dir names a folder of .py files and "
                    "packages, or one of these."
                )
            paths = plugin_files(folder)
            if any(module_name(path) in sys.modules for path in paths):
                # What an earlier loading of these files imported beside them is read anew, as they are.
                forget(folder.parent if is_file else folder)
            for path in paths:
                loader.load_file(path)
    for module in modules:
        if not loader.manager.is_registered(module):
            loader.add(module, Source(module.__name__, module.__file__ or module.__name__, "imported"))
    return Plugins(tuple(loader.registered), tuple(loader.sources), tuple(loader.failures))


class _Loader:
    """Registers plugins with pluggy one at a time, each on its own risk."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(PROJECT)
        self.manager.add_hookspecs(hooks)
        self.registered: list[Registered] = []
        self.sources: list[Source] = []
        self.failures: list[Failure] = []

    def load(self, source: Source, import_plugin: Callable[[], ModuleType]) -> None:
        if not source.is_outside:
            self.failures.append(Failure(source, f"no plugin may be called {BUILT_IN}; rename it"))
            return
        try:
            with guarded(str(source)):
                plugin = import_plugin()
        except KeyboardInterrupt:
            raise
        # A plugin may fail in any way at all, a call of sys.exit included; none of them may stop a run.
        except BaseException as error:
            self.failures.append(_raised(source, error))
            return
        self.add(plugin, source)

    def load_file(self, path: Path) -> None:
        name = plugin_name(path)
        try:
            content = path.read_bytes()
            if path.name == "__init__.py":
                content = b"".join(one.read_bytes() for one in files_of(path))
        except OSError as error:
            self.failures.append(Failure(Source(name, str(path), "unknown"), f"it cannot be read: {error.strerror}"))
            return
        version = hashlib.sha256(content).hexdigest()[:12]
        self.load(Source(name, str(real(path)), version), lambda: import_file(path))

    def add(self, plugin: ModuleType, source: Source) -> None:
        source = replace(source, module=getattr(plugin, "__name__", ""))
        unmarked = [
            name
            for name, _ in inspect.getmembers(plugin, inspect.isfunction)
            if name in CONTRACTS and self.manager.parse_hookimpl_opts(plugin, name) is None
        ]
        for name in unmarked:
            self.failures.append(Failure(source, f"{name} is not marked with @hookimpl"))
        try:
            self.manager.register(plugin)
            self.manager.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            if self.manager.is_registered(plugin):
                self.manager.unregister(plugin)
            hint = next((nearest(word.strip("'"), CONTRACTS) for word in str(error).split() if "bserkit_" in word), "")
            self.failures.append(Failure(source, f"{' '.join(str(error).split())}{hint}"))
            return
        self.sources.append(source)
        for name, contract in CONTRACTS.items():
            for implementation in getattr(self.manager.hook, name).get_hookimpls():
                if implementation.plugin is plugin:
                    self._collect(name, contract, implementation.function, source)

    def _collect(
        self, hook: str, contract: type[Component], function: Callable[[], Iterable[object]], source: Source
    ) -> None:
        try:
            with guarded(str(source)) if source.is_outside else nullcontext():
                components = list(function())
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self.failures.append(_raised(source, error, f"{hook}: "))
            return
        for component in components:
            if problem := _problem(component, contract):
                self.failures.append(Failure(source, f"{hook}: {problem}"))
            elif (one := Registered(cast("type[Component]", component), source)) not in self.registered:
                self.registered.append(one)


def _meant(several: list[Registered]) -> list[Registered]:
    """Return those that a name alone may mean: bserkit's own, or else all."""
    return [one for one in several if not one.source.is_outside] or several


def _raised(source: Source, error: BaseException, where: str = "") -> Failure:
    return Failure(source, f"{where}{type(error).__name__}: {error}", "".join(traceback.format_exception(error)))


def _problem(component: object, contract: type[Component]) -> str:
    if not (isinstance(component, type) and issubclass(component, contract)):
        return f"{component!r} is not a {contract.__name__} class"
    if missing := sorted(getattr(component, "__abstractmethods__", ())):
        return f"{component.__name__} does not implement {', '.join(missing)}"
    # A parameter of such a name would stand in the place of what every component of the kind has.
    taken = {"name", *dir(contract)} - set(dir(BaseModel))
    if reserved := [one for one in component.model_fields if one in taken]:
        parameters = " and ".join(map(repr, reserved))
        return f"{component.__name__} has a parameter {parameters}, a reserved name; call it something else"
    if not isinstance(name := getattr(component, "name", None), str):
        return f"{component.__name__} has no name; set a class variable such as name = 'block-max'"
    if not is_name(name):
        return f"{component.__name__} has a name that cannot be typed, {name!r}; use small letters, digits and hyphens"
    if issubclass(component, ChannelTransform):
        outputs = getattr(component, "outputs", ())
        if not outputs or not all(map(is_name, outputs)):
            return f"{component.__name__} names no channels; set a class variable such as outputs = ('mid', 'side')"
    return ""
