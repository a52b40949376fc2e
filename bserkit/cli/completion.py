"""Shell completion of component names and their parameters."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from click.shell_completion import BashComplete, CompletionItem, add_completion_class, split_arg_string

from bserkit.errors import BserkitError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import click

    from bserkit.plugins.registry import Plugins

    _Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def complete_component(kind: str, load: Callable[[dict[str, Any]], Plugins]) -> _Complete:
    """Return what completes a component's name, and after its colon the names of its parameters and their values."""

    def complete(ctx: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
        try:
            found = load(ctx.params).choices(kind)
        except BserkitError:
            return []
        before, comma, last = typed.rpartition(",") if ":" not in typed else ("", "", typed)
        name, colon, _ = last.partition(":")
        if not colon:
            return [f"{before}{comma}{one}" for one in found if one.startswith(name)]
        if name not in found:
            return []
        stem = typed[: max(typed.rfind(":"), typed.rfind(",")) + 1]
        fields = found[name].component.model_fields
        known = [f"{stem}{field}=" for field in fields]
        field, equals, _ = typed.removeprefix(stem).partition("=")
        if equals and field in fields:
            known = [f"{stem}{field}={value}" for value in _values(fields[field].annotation)]
        return [one for one in known if one.startswith(typed)]

    return complete


def complete_choice(words: Sequence[str]) -> _Complete:
    """Return what completes one of some words."""
    return lambda ctx, parameter, typed: [one for one in words if one.startswith(typed)]


def _values(annotation: object) -> list[str]:
    """Return the values of a parameter's type that are known beforehand."""
    if annotation is bool:
        return ["true", "false"]
    if get_origin(annotation) is Literal:
        return [str(one) for one in get_args(annotation)]
    return [one for part in get_args(annotation) for one in _values(part)]


@add_completion_class
class _Bash(BashComplete):
    """Bash takes a colon and an equals sign for words of their own, and replaces only what stands after them."""

    def get_completion_args(self) -> tuple[list[str], str]:
        words, current = split_arg_string(os.environ["COMP_WORDS"]), int(os.environ["COMP_CWORD"])
        joined: list[str] = []
        for word in words[: current + 1]:
            if joined and (word in {":", "="} or joined[-1].endswith((":", "="))):
                joined[-1] += word
            else:
                joined.append(word)
        incomplete = joined.pop() if current < len(words) else ""
        last = words[current] if current < len(words) else ""
        self.kept = len(incomplete) - len("" if last in {":", "="} else last)
        return joined[1:], incomplete

    def format_completion(self, item: CompletionItem[Any]) -> str:
        return f"{item.type},{item.value[self.kept :]}"
