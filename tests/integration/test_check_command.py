"""``bserkit check``: which rules of what were checked, and where a broken one is."""

import textwrap

import pytest

POOLER = """
from bserkit import Pooler, hookimpl


class First(Pooler):
    '''The first segment.'''

    name = "first-of-all"
    scale: float = 1.0

    def pool(self, segments):
        return self.scale * segments[0]


@hookimpl
def bserkit_poolers():
    return [First]
"""
SORTING = POOLER.replace("return self", "segments.sort(axis=0)\n        return self")
DIVIDING = POOLER.replace("return self.scale * segments[0]", "return segments[[0.0][len(segments) - 1] == 0]")


@pytest.fixture
def plugin(tmp_path):
    def write(text, name="mine.py"):
        path = tmp_path / "own" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    return write


def test_every_check_of_a_good_file_is_shown(cli, plugin):
    ended = cli("check", plugin(POOLER))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[0].startswith("plugin mine  [mine: ")
    assert "  ok       imports-nothing-heavy" in lines
    below = lines[lines.index(next(line for line in lines if line.startswith("pooler first-of-all"))) :]
    assert "  ok       leaves-its-input" in below
    assert lines[-1] == f"{len(lines) - 3} checks: {len(lines) - 3} kept, 0 broken, 0 skipped."


def test_a_broken_rule_is_shown_with_its_place(cli, plugin):
    path = plugin(SORTING)
    ended = cli("check", path)
    assert ended.returncode == 1
    assert "  BROKEN   leaves-its-input: What a component is given is as it was afterwards." in ended.stdout
    assert "Traceback (most recent call last)" in ended.stdout
    assert f"In plugin mine ({path}); pooler first-of-all; {path}, line 5\n" in ended.stdout
    assert "1 broken" in ended.stdout


def test_an_error_is_shown_with_its_line(cli, plugin):
    path = plugin(DIVIDING)
    ended = cli("check", path)
    assert ended.returncode == 1
    assert "IndexError" in ended.stdout
    assert f"pooler first-of-all; {path}, line 12\n" in ended.stdout


def test_a_file_that_cannot_be_loaded_fails_with_why(cli, plugin):
    ended = cli("check", plugin("import a_module_that_nobody_has"))
    assert ended.returncode == 1
    assert "ModuleNotFoundError: No module named 'a_module_that_nobody_has'" in ended.stdout
    assert "1 checks: 0 kept, 1 broken, 0 skipped." in ended.stdout


def test_a_component_is_checked_by_its_spelling(cli, plugin):
    plugin(SORTING, "sorting.py").with_name("other.py").write_text(POOLER.replace("first-of-all", "other"))
    ended = cli("check", "other:scale=2", "--plugins-dir", "own")
    assert ended.returncode == 0, ended.stdout
    assert "pooler other:scale=2.0" in ended.stdout
    assert "first-of-all" not in ended.stdout


def test_a_plugins_name_says_which_component_is_meant(cli, plugin):
    plugin(SORTING, "sorting.py").with_name("other.py").write_text(POOLER)
    ended = cli("check", "first-of-all", "--plugins-dir", "own")
    assert ended.returncode == 2
    assert "Ask for other/first-of-all or sorting/first-of-all" in ended.stderr
    ended = cli("check", "other/first-of-all:scale=2", "--plugins-dir", "own")
    assert ended.returncode == 1
    assert "asked for as other/first-of-all" in ended.stdout
    assert "1 broken" in ended.stdout


def test_a_built_in_component_is_checked_alone(cli):
    ended = cli("check", "block-max:blocks=3")
    assert ended.returncode == 0
    assert ended.stdout.startswith("pooler block-max:blocks=3  [built-in: bserkit.plugins.builtin.poolers]\n")


def test_all_plugins_of_a_folder_are_checked_unnamed(cli, plugin):
    plugin(SORTING, "sorting.py").with_name("other.py").write_text(POOLER.replace("first-of-all", "other"))
    ended = cli("check", "--plugins-dir", "own")
    assert ended.returncode == 1
    assert {"pooler first-of-all", "pooler other"} <= {line.split("  [")[0] for line in ended.stdout.splitlines()}


def test_an_installed_package_is_checked_by_its_names(cli, tmp_path, monkeypatch):
    site = tmp_path / "site"
    info = site / "own_first-1.2.dist-info"
    info.mkdir(parents=True)
    (site / "own_first.py").write_text(POOLER)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-first\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[bserkit]\nentered = own_first\n")
    monkeypatch.syspath_prepend(site)
    for name in ("own-first", "own_first", "entered"):
        ended = cli("check", name)
        assert ended.returncode == 0, ended.stdout
        assert "plugin entered  [entered: own-first, own_first]" in ended.stdout


def test_a_folder_of_a_components_name_is_not_run(cli, tmp_path):
    (tmp_path / "block-max").mkdir()
    (tmp_path / "block-max" / "trap.py").write_text("raise RuntimeError('it was run')")
    ended = cli("check", "block-max")
    assert ended.returncode == 0, ended.stdout
    assert cli("check", "./block-max").returncode == 1


def test_a_component_that_exits_fails_its_check(cli, plugin):
    ended = cli("check", plugin(POOLER.replace("return self", "raise SystemExit(0)\n        return self")))
    assert ended.returncode == 1
    assert "SystemExit: 0" in ended.stdout


def test_nothing_to_check_is_a_failure(cli):
    ended = cli("check", "--no-plugins")
    assert ended.returncode == 1
    assert "Nothing was checked" in ended.stderr


def test_a_file_without_a_component_fails(cli, plugin):
    ended = cli("check", plugin("x = 1"))
    assert ended.returncode == 1
    assert "BROKEN   brings-a-component" in ended.stdout


def test_an_unknown_name_is_wrong_usage(cli):
    ended = cli("check", "blok-max")
    assert ended.returncode == 2
    assert "did you mean 'block-max'?" in ended.stderr


def test_a_reader_is_checked_with_a_corpus(cli, corpus):
    ended = cli("check", "csv", "--data", corpus / "manifest.csv")
    assert ended.returncode == 0, ended.stdout
    assert "  ok       writes-nothing-into-a-corpus" in ended.stdout
