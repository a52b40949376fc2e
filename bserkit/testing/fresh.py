"""Fresh: a component as a new process would have it, whatever its module has kept in this one."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from bserkit.component import Component

if TYPE_CHECKING:
    from types import ModuleType

_Component = TypeVar("_Component", bound=Component)


def fresh(component: _Component) -> _Component:
    """Return an equal component whose module, and other modules of its package, were executed anew.

    One of bserkit's own, and one whose class is not at the top of a module with a file, is returned as it is.
    """
    cls = type(component)
    module, top = sys.modules.get(cls.__module__), cls.__module__.partition(".")[0]
    file = getattr(module, "__file__", None)
    if top in {"bserkit", "__main__"} or not file or not hasattr(module, cls.__qualname__):
        return component
    made: type[_Component] = getattr(_executed_anew(cls.__module__, file), cls.__qualname__)
    return made(**{name: getattr(component, name) for name in cls.model_fields})


def _executed_anew(name: str, file: str) -> ModuleType:
    """Execute a module as if nothing of its package had been imported, and leave what is imported as it was."""
    held = _taken_out(name.partition(".")[0])
    try:
        if "." in name:
            with suppress(ModuleNotFoundError):
                return importlib.import_module(name)
        # A file that is not found by its name.
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            return held[name]
        sys.modules[name] = made = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(made)
        return made
    finally:
        _taken_out(name.partition(".")[0])
        sys.modules.update(held)


def _taken_out(top: str) -> dict[str, ModuleType]:
    """Take a package and all modules in it out of those that are imported, and return them."""
    return {name: sys.modules.pop(name) for name in list(sys.modules) if f"{name}.".startswith(f"{top}.")}
