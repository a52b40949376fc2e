"""What plugins and programs may rely on changes only on purpose: every public signature stands in ``public.txt``.

``BSERKIT_GOLDEN=write pytest tests/contract/test_public.py`` writes it anew; the change wants a line in CHANGELOG.md.
"""

from __future__ import annotations

import inspect
import os
from functools import cached_property
from pathlib import Path

import bserkit
import bserkit.testing
from bserkit.plugins import hooks

KNOWN = Path(__file__).with_name("public.txt")


def signature(value):
    try:
        # Versions of Python differ in whether they name the module.
        return str(inspect.signature(value)).replace("typing.", "")
    except (TypeError, ValueError):
        return ""


def members(cls):
    """The public attributes of a class that are bserkit's own, an inherited one under each class that has it."""
    for name in sorted(dir(cls)):
        value = inspect.getattr_static(cls, name)
        if name.startswith("_") or name.startswith("model_"):
            continue
        if isinstance(value, staticmethod | classmethod):
            value = value.__func__
        owner = next((base for base in cls.__mro__ if name in vars(base)), cls)
        if owner.__module__.startswith("bserkit"):
            kind = (
                "property"
                if isinstance(value, property | cached_property)
                else signature(value)
                if callable(value)
                else repr(value)
            )
            yield f"{name}{kind if kind.startswith('(') else f': {kind}'}"
    for name, field in getattr(cls, "model_fields", {}).items():
        yield f"{name} = {'required' if field.is_required() else field.default!r}"


def public():
    """A line a public name, and below a class one for each thing in it."""
    lines = []
    for module in (bserkit, bserkit.testing):
        for name in sorted(module.__all__):
            value = getattr(module, name)
            told = f"{module.__name__}.{name}{signature(value)}"
            lines.append(told)
            if inspect.isclass(value):
                lines += [f"    {one}" for one in members(value)]
    lines += [
        f"hook {name}{signature(one)}" for name, one in sorted(vars(hooks).items()) if name.startswith("bserkit_")
    ]
    return "\n".join(lines) + "\n"


def test_public_signatures_change_on_purpose_only():
    found = public()
    if os.environ.get("BSERKIT_GOLDEN") == "write":
        KNOWN.write_text(found, encoding="utf-8")
    assert found == KNOWN.read_text(encoding="utf-8"), "a public signature changed: see the top of this file"
