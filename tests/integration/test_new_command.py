"""``bserkit new``: what it writes works, is typed, formatted and tested, and keeps every rule, as it is."""

import doctest
import subprocess
import sys

import pytest

from bserkit.cli.new import KINDS
from bserkit.plugins.registry import import_file
from bserkit.plugins.scaffold import HOOKS

every_kind = pytest.mark.parametrize("kind", HOOKS)


def test_the_command_names_every_kind_that_has_a_hook():
    assert list(HOOKS) == list(KINDS)


@every_kind
def test_a_new_file_keeps_the_rules_at_once(cli, tmp_path, kind):
    made = cli("new", kind, f"my-{kind}", "--single-file")
    assert made.returncode == 0, made.stderr
    assert f"wrote my_{kind}.py" in made.stdout
    results = doctest.testmod(import_file(tmp_path / f"my_{kind}.py"))
    assert results.attempted > results.failed == 0
    ended = cli("check", f"my_{kind}.py")
    assert ended.returncode == 0, ended.stdout
    assert f"{kind} my-{kind}" in ended.stdout


@pytest.mark.slow
@every_kind
def test_a_new_package_passes_its_own_tests(cli, tmp_path, kind):
    assert cli("new", kind, f"my-{kind}").returncode == 0
    root = tmp_path / f"bserkit-my-{kind}"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout
    assert " passed" in ended.stdout


def test_a_new_package_keeps_the_rules_uninstalled(cli, tmp_path):
    made = cli("new", "pooler", "my-own", "--into", "work")
    root = tmp_path / "work" / "bserkit-my-own"
    files = {"pyproject.toml", "README.md", "src/bserkit_my_own/py.typed", "tests/test_my_own.py"}
    assert files <= {path.relative_to(root).as_posix() for path in root.rglob("*")}
    assert 'my-own = "bserkit_my_own"' in (root / "pyproject.toml").read_text()
    assert "bserkit check work/bserkit-my-own" in made.stdout
    ended = cli("check", "work/bserkit-my-own")
    assert ended.returncode == 0, ended.stdout
    assert "pooler my-own" in ended.stdout


@pytest.mark.slow
def test_new_files_are_typed_and_formatted(cli, tmp_path):
    for kind in HOOKS:
        assert cli("new", kind, f"my-{kind}", "--single-file").returncode == 0
    for command in (["mypy", "--strict"], ["ruff", "check", "--isolated"], ["ruff", "format", "--isolated", "--check"]):
        width = ["--line-length", "120"] if command[0] == "ruff" else ["--cache-dir", str(tmp_path / "types")]
        files = [f"my_{kind}.py" for kind in HOOKS]
        ended = subprocess.run(
            [sys.executable, "-m", *command, *width, *files], cwd=tmp_path, capture_output=True, text=True
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("poolers", "mine"), "There is no kind 'poolers' (did you mean 'pooler'?)"),
        (("pooler", "My Pooler"), "cannot name a component"),
        (("pooler", "3d"), "a letter first"),
        (("pooler", "block-max"), "There is a pooler 'block-max' already, of built-in."),
    ],
)
def test_what_cannot_be_written_is_wrong_usage(cli, words, said):
    ended = cli("new", *words)
    assert ended.returncode == 2
    assert said in ended.stderr


@pytest.mark.parametrize("single", [(), ("--single-file",)])
def test_what_is_there_already_is_left_as_it_is(cli, tmp_path, single):
    path = tmp_path / ("mine.py" if single else "bserkit-mine/src/bserkit_mine/__init__.py")
    assert cli("new", "pooler", "mine", *single).returncode == 0
    path.write_text("changed")
    ended = cli("new", "pooler", "mine", *single)
    assert ended.returncode == 2
    assert "is there already; nothing was written" in ended.stderr
    assert path.read_text() == "changed"
