"""Shell completion of component names and their parameters."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from importlib.metadata import entry_points
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from click.shell_completion import BashComplete, CompletionItem, add_completion_class, split_arg_string

from bserkit.identity.modules import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import click

    _Complete = Callable[[click.Context, click.Parameter, str], list[str]]


#: How long a shell waits for plugins, seconds; after that it is offered what is built in.
LONGEST_SECONDS = 5.0
_ANSWER = "import json, sys; from bserkit.cli import completion; completion.answer(*json.loads(sys.argv[1]))"


def complete_component(kind: str) -> _Complete:
    """Return what completes a component's name, and after its colon the names of its parameters and their values."""

    def complete(ctx: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
        folders = ctx.params.get("plugins_dir") or os.environ.get("BSERKIT_PLUGINS_DIR")
        found = None
        if not ctx.params.get("no_plugins") and (folders or entry_points(group=PROJECT)):
            found = _with_plugins(kind, typed, folders)
        return _fitting(kind, typed, None, outside=False) if found is None else found

    return complete


def _with_plugins(kind: str, typed: str, folders: str | None) -> list[str] | None:
    """Ask another process, where a plugin may do anything at all; None where no answer comes."""
    asked = json.dumps([kind, typed, folders and str(folders)])
    with TemporaryFile() as answered:
        child = subprocess.Popen(
            [sys.executable, "-P", "-c", _ANSWER, asked],
            stdin=subprocess.DEVNULL,
            stdout=answered,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            child.wait(LONGEST_SECONDS)
            answered.seek(0)
            found: list[str] = json.loads(answered.read())
            return found
        except (subprocess.TimeoutExpired, ValueError):
            return None
        finally:
            _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a process, and whatever it started, if it has not ended."""
    if child.poll() is None:
        if os.name == "posix":
            os.killpg(child.pid, signal.SIGKILL)
        child.kill()
        child.wait()


def answer(kind: str, typed: str, folders: str | None) -> None:
    """Print what completes a component, those of plugins among them, as JSON."""
    print(json.dumps(_fitting(kind, typed, folders, outside=True)))


def _fitting(kind: str, typed: str, folders: str | None, outside: bool) -> list[str]:
    from bserkit.experiments.opening import given_plugins

    found = given_plugins(folders, outside).choices(kind)
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
