"""Plugins: what must hold of a file or a package that brings components."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bserkit.component import Component
from bserkit.plugins.registry import CONTRACTS, Failure, Plugins, Source, module_name
from bserkit.testing.expecting import expect
from bserkit.testing.probe import identities
from bserkit.testing.recipes import examples_of

if TYPE_CHECKING:
    from types import ModuleType

#: How long a plugin may take to import beyond what bserkit itself does, seconds of a processor.
LONGEST_SECONDS = 0.5


@dataclass(frozen=True)
class Plugin:
    """A plugin among all that were loaded with it."""

    source: Source
    among: Plugins

    @property
    def components(self) -> list[type[Component]]:
        """The classes that its hooks returned."""
        return [one.component for one in self.among.registered if one.source == self.source]

    @property
    def failures(self) -> list[Failure]:
        """What of it could not be used."""
        return [one for one in self.among.failures if one.source == self.source]

    @property
    def modules(self) -> list[ModuleType]:
        """The imported modules of its package, or its one file."""
        top = self.source.module.partition(".")[0]
        return [module for name, module in list(sys.modules.items()) if name == top or name.startswith(f"{top}.")]

    @cached_property
    def probed(self) -> Mapping[str, Any]:
        """What ``probe`` says of it in a process of its own.

        Raises:
            CheckError: it cannot be imported there.
        """
        location, module = self.source.location, self.source.module
        is_file = module in ("", module_name(Path(location)))
        script = "import json, sys; from bserkit.testing.probe import probe; print(json.dumps(probe(sys.argv[1])))"
        command = [sys.executable, "-c", script, location if is_file else module]
        # Text has another hash in each process, so that what follows from the order of a set shows.
        own = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONHASHSEED": "1"}
        done = subprocess.run(command, env=os.environ | own, capture_output=True, text=True, check=False)
        expect(done.returncode == 0, f"plugin {self.source.name} cannot be imported on its own:\n{done.stderr}")
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found


def loads(plugin: Plugin) -> None:
    """It is imported, and its hooks return component classes that can be used."""
    said = "".join(f"\n{one.reason}\n{one.trace}" for one in plugin.failures)
    expect(not said, f"plugin {plugin.source.name} ({plugin.source.location}) failed to load:{said}")


def brings_a_component(plugin: Plugin) -> None:
    """Its hooks return at least one class."""
    hooks = ", ".join(CONTRACTS)
    expect(
        plugin.components,
        f"plugin {plugin.source.name} brings no component; expected a function marked with @hookimpl of one of the "
        f"names {hooks}, which returns classes.",
    )


def returns_every_class(plugin: Plugin) -> None:
    """A hook returns each component class that it defines, but those whose names begin with an underscore."""
    contracts = tuple(CONTRACTS.values())
    # By their names: a file that was loaded again since has classes of its own.
    known = {(one.component.__module__, one.component.__qualname__) for one in plugin.among.registered}
    names = {module.__name__ for module in plugin.modules}
    forgotten = sorted(
        f"{one.__module__}.{one.__qualname__} ({one.name})"
        for module in plugin.modules
        for one in vars(module).values()
        if isinstance(one, type) and issubclass(one, contracts) and one.__module__ in names
        and (one.__module__, one.__qualname__) not in known
        and isinstance(getattr(one, "name", None), str) and not one.__abstractmethods__
        and not one.__name__.startswith("_")
    )  # fmt: skip
    expect(
        not forgotten,
        f"plugin {plugin.source.name} defines classes that no hook returns: {', '.join(forgotten)}. Return them, or "
        "let their names begin with an underscore.",
    )


def claims_no_name_of_others(plugin: Plugin) -> None:
    """No other plugin, and no built-in, has a component of the same kind and name."""
    for one in plugin.components:
        found = plugin.among.of_kind(one.kind)[one.name]
        places = " and ".join(f"{other.source.name} ({other.source.location})" for other in found)
        expect(
            len(found) == 1,
            f"The {one.kind} {one.name!r} is claimed by {places}. Rename it, or it must be asked for as "
            f"{plugin.source.qualifier}/{one.name}.",
        )


def imports_nothing_heavy(plugin: Plugin) -> None:
    """Importing it imports none of the libraries that take a second, so that ``bserkit --help`` stays instant."""
    found = [f"{name} at {place}" for name, place in plugin.probed["heavy"].items()]
    expect(
        not found,
        f"plugin {plugin.source.name} imports {', '.join(found)} as soon as it is loaded. Import it inside the "
        "function that uses it.",
    )


def imports_quickly(plugin: Plugin) -> None:
    """Importing it takes half a second of a processor at most."""
    seconds = plugin.probed["seconds"]
    expect(
        seconds <= LONGEST_SECONDS,
        f"plugin {plugin.source.name} takes {seconds:.2f} s to import; expected {LONGEST_SECONDS} s at most, since "
        "every command loads it. Leave work to the functions that need it.",
    )


def has_one_identity_everywhere(plugin: Plugin) -> None:
    """What its components' work is kept under is the same in another process."""
    here, there = identities(examples_of(plugin.components)), plugin.probed["identities"]
    differ = sorted(name for name, digest in here.items() if there.get(name) != digest)
    expect(
        not differ,
        f"In another process {', '.join(differ)} of plugin {plugin.source.name} would not find what it kept in this "
        "one. Let no default, recipe() or weights_digest() follow from time, chance, the order of a set or an address "
        "in memory.",
    )


CHECKS: Iterable[Callable[[Plugin], None]] = (
    loads,
    brings_a_component,
    returns_every_class,
    claims_no_name_of_others,
    imports_nothing_heavy,
    imports_quickly,
    has_one_identity_everywhere,
)
