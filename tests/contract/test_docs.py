"""Documents say what the code does."""

import importlib
import re
import runpy
from importlib.metadata import version
from pathlib import Path

import click
import numpy as np
import pytest

from bserkit import Fuser, Views
from bserkit.cli import main
from bserkit.component import parse_specs
from bserkit.experiments.settings import one_spec, read_config, resolve
from bserkit.learning.model import fit_model
from bserkit.learning.model_files import load_model, save_model
from bserkit.plugins.builtin.classifiers import LinearSvm
from bserkit.plugins.registry import KINDS, load_plugins

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["plugins.md", "architecture.md", "results-schema.md"])
def test_a_page_that_follows_from_the_code_does(name):
    made = runpy.run_path(str(ROOT / "docs" / "make.py"))["PAGES"][name]()
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == made, "run: python docs/make.py"


def test_the_readme_names_every_built_in_component():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    plugins = load_plugins(outside=False)
    for kind in KINDS:
        for name in plugins.of_kind(kind):
            assert re.search(rf"`{name}\b", readme), f"{kind} {name}"


def test_the_readmes_plugin_is_the_one_that_is_shipped(tmp_path):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    (tmp_path / "quantiles.py").write_text(code, encoding="utf-8")
    (component,) = load_plugins([tmp_path]).of_kind("pooler")["quantiles"]
    assert component.component(low=0.05).pool([[1.0, 2.0], [3.0, 4.0]]).shape == (4,)
    assert len([line for line in code.splitlines() if line.strip()]) <= 20


def test_shipped_plugins_load():
    plugins = load_plugins([ROOT / "plugins"])
    assert not plugins.failures
    assert {"quantiles", "random_forest", "short_time"} <= {source.name for source in plugins.sources}


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.toml")), ids=lambda path: path.name)
def test_example_configurations_resolve(path):
    values = read_config(path)
    settings = resolve(
        values | {"data": "nowhere", "corpus": values.get("corpus", "emovo")}, load_plugins(outside=False)
    )
    for kind in {"backbone", "pooler", "classifier", "fusion"} & set(values):
        (component,) = (one for one in settings.components() if one.kind == kind)
        assert component.name == one_spec(kind, values[kind]).name


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
KINDS_OF_OPTIONS = "pooler|fusion|backbone|channels|protocol|corpus|frontend|classifier|normaliser"


def heading_names(page):
    """The names by which a page's headings are linked to, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(text):
    """Every command of bserkit's in a page's blocks and lines, without what the shell does with it."""
    blocks = "\n".join(re.findall(r"```console\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")
    typed = re.findall(r"^(?:\$ )?(?:\S*/)?bserkit ((?:-\S+ )*[a-z].*)", blocks, re.MULTILINE)
    typed += re.findall(r"`bserkit ([a-z][^`]*)`", text)
    return [re.split(r" [#|>&]", one)[0].split() for one in typed]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_links_lead_to_files_and_headings(page):
    for link, heading in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text(encoding="utf-8")):
        target = page.parent / link if link else page
        assert target.exists(), link
        assert not heading or heading in heading_names(target), f"{link}#{heading}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_commands_in_pages_exist_with_their_options(page):
    for words in commands(page.read_text(encoding="utf-8")):
        name = next(word for word in words if not word.startswith("-"))
        assert name in main.commands, words
        command = main.commands[name]
        if isinstance(command, click.Group) and len(words) > words.index(name) + 1:
            command = command.commands[words[words.index(name) + 1]]
        taken = {flag: one for one in command.params for flag in one.opts}
        for place, word in enumerate(words):
            if word.startswith("--") and place > words.index(name):
                flag, _, value = word.partition("=")
                assert flag in taken, words
                needs = isinstance(taken[flag], click.Option) and not taken[flag].is_flag
                assert not needs or value or words[place + 1 : place + 2], f"{word} has no value: {words}"


def test_commands_in_pages_name_components_that_exist():
    plugins = load_plugins([ROOT / "plugins"])
    lines = [" ".join(words) for page in PAGES for words in commands(page.read_text(encoding="utf-8"))]
    spelt = [found for line in lines for found in re.findall(rf"--({KINDS_OF_OPTIONS}) '?([a-z][^\s`']*)", line)]
    assert len(spelt) >= 20
    for option, text in spelt:
        for spec in parse_specs(text.rstrip(",.")):
            assert set(spec.parameters) <= set(plugins.find(option, spec.name).component.model_fields)


def test_installable_example_adds_a_working_fuser(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / "examples" / "bserkit-vote" / "src")
    (vote,) = importlib.import_module("bserkit_vote").bserkit_fusers()
    generator = np.random.default_rng(0)
    labels = np.array(["a", "b"] * 10)
    features = {channel: generator.normal(size=(20, 3)) + 3 * (labels == "b")[:, None] for channel in ("left", "right")}
    views = Views(features, {"left": "lr", "right": "lr"}, ("a", "b"), labels, np.array(["s1", "s2"] * 10))
    model = fit_model(views, vote(), LinearSvm())
    assert (model.predict(views) == labels).mean() > 0.9
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path / "model", lambda contract, spec: vote() if contract is Fuser else LinearSvm())
    np.testing.assert_array_equal(loaded.scores(views), model.scores(views))


def test_the_citation_can_be_read():
    yaml = pytest.importorskip("yaml")
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == version("bserkit")
    assert cited["preferred-citation"]["doi"] == "10.1109/ACCESS.2020.2969032"
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    assert {one["entry"].split()[0] for one in hooks} == {
        f".venv/bin/{name}" for name in ("ruff", "mypy", "lint-imports")
    }
