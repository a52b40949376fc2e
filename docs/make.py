"""Write the pages that follow from the code: plugins, architecture, results-schema. A test compares them."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import grimp

from bserkit import schema, testing
from bserkit.evaluation import comparison, results
from bserkit.experiments.settings import SETTINGS
from bserkit.features import example as channels
from bserkit.plugins import hooks
from bserkit.plugins.builtin.channels import MidSide
from bserkit.plugins.builtin.classifiers import LinearSvm
from bserkit.plugins.builtin.codebooks import Vlad
from bserkit.plugins.builtin.corpora.manifest import Manifest
from bserkit.plugins.builtin.frontends import LogMel
from bserkit.plugins.builtin.fusers import TwoStage
from bserkit.plugins.builtin.normalisers import Speaker
from bserkit.plugins.builtin.poolers import BlockMax
from bserkit.plugins.registry import CONTRACTS
from bserkit.reporting import paper_tables
from bserkit.testing import behaviour, recipes
from bserkit.testing import plugins as plugin_rules
from bserkit.text import markdown_table

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
PACKAGE = HERE.parent / "bserkit"
#: The folders from the top; each imports only those below it, as pyproject.toml has the checks hold.
FOLDERS = (
    *("cli", "experiments", "testing", "plugins", "reporting", "evaluation", "learning", "features", "corpora"),
    "tracking",
)
#: Rules of components of every kind.
SHARED = {
    one.__name__.replace("_", "-") for one in (*recipes.CHECKS, *behaviour.SHARED, behaviour.makes_the_same_in_threads)
}
#: The title of the rules of several kinds, and of those of one of them.
KINDS = {"normaliser": "A normaliser, classifier or fusion", "classifier": "A classifier, beside those"}
WRITTEN = "<!-- Written by docs/make.py; do not edit. -->\n"

#: The pipeline, with the shapes between its stages.
STAGES = r"""flowchart LR
    A["corpus\n(emovo, csv, ...)"] -->|"stereo (2, time)"| B["channels\nlr, ms, mono"]
    B -->|"(channel, time)"| C["frontend\nlogmel"]
    C -->|"(segment, 3, mel, frame)"| D["backbone\nalexnet, torchvision\n(fine-tuned: sgd)"]
    D -->|"(segment, feature)"| S[("feature store\ncomputed once")]
    S --> E["pooler\nblock-max, ..."]
    E -->|"(feature,) an utterance"| N["normaliser\nnone, speaker, pca"]
    N --> F["classifier + fusion\nlinear-svm, two-stage"]
    F -->|"(utterance, class)"| G["protocol, metrics\nloso, losgo, predefined"]
    G --> H[("MLflow")]"""


def example(hook: str) -> str:
    """Return the complete plugin file in a hook's docstring."""
    text = inspect.getdoc(getattr(hooks, hook)) or ""
    code = textwrap.dedent(text.split(".. code-block:: python", 1)[1]).strip() + "\n"
    return code.replace("'''", '"""')


def plugins() -> str:
    """Return the page of hooks."""
    parts = [
        "# Plugins\n",
        WRITTEN,
        inspect.getdoc(hooks).replace("``", "`") + "\n",
        f"The stages, and what goes from one to the next:\n\n```mermaid\n{STAGES}\n```\n",
        "What is found where: `bserkit plugins`. What can be used: `bserkit components`.\n",
    ]
    for hook, contract in CONTRACTS.items():
        summary, _, more = (
            (inspect.getdoc(getattr(hooks, hook)) or "").partition("Example:")[0].strip().partition("\n\n")
        )
        more = " " + " ".join(more.replace("``", "`").split()) if more else ""
        parts += [f"## `{hook}`\n", f"{summary}{more} The contract is `bserkit.{contract.__name__}`:\n"]
        for name in sorted(contract.__abstractmethods__):
            method = getattr(contract, name)
            described = (inspect.getdoc(method) or "").splitlines()[0].replace("``", "`")
            parts.append(f"- `{name}{inspect.signature(method)}`: {described}")
        parts += ["", f"```python\n{example(hook)}```\n"]
    return "\n".join([*parts, *checks()])


def checks() -> list[str]:
    """Return the section of what a plugin's author can check, and every rule."""
    written = {"plugin": [(check_name(rule), inspect.getdoc(rule)) for rule in plugin_rules.CHECKS], "component": []}
    seen = set()
    for one in (
        Manifest(),
        MidSide(),
        LogMel(),
        testing.BandMeans(),
        BlockMax(),
        Vlad(),
        Speaker(),
        LinearSvm(),
        TwoStage(),
    ):
        for check in testing.checks_of(one, HERE):
            if check.name not in seen:
                seen.add(check.name)
                kind = "component" if check.name in SHARED else KINDS.get(one.kind, f"Of the kind {one.kind}")
                written.setdefault(kind, []).append((check.name, check.rule))
    titles = {"plugin": "A plugin", "component": "Every component"}
    parts = ["## Checks\n", re.sub(r"(?<!`)``(?!`)", "`", inspect.getdoc(testing).partition("\n\n")[2]) + "\n"]
    for kind, rules in written.items():
        parts.append(f"{titles.get(kind, kind)}:\n")
        parts += [f"- `{name}`: {' '.join(rule.replace('``', '`').split())}" for name, rule in rules]
        parts.append("")
    return parts


def check_name(rule: Callable[..., None]) -> str:
    """Return the name of a check."""
    return rule.__name__.replace("_", "-")


def first_line(path: Path) -> str:
    """Return the first line of a module's docstring."""
    found = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return found.partition("\n")[0].replace("``", "`")


def described(folder: str) -> str:
    """Return what a folder of the package is for."""
    return first_line(PACKAGE / folder / "__init__.py")


def imports() -> list[tuple[str, str]]:
    """Return which folder imports which, from the top; pairs that follow from others are left out."""
    graph = grimp.build_graph("bserkit", exclude_type_checking_imports=True, cache_dir=None)
    known: dict[str, set[str]] = {}
    for folder in FOLDERS:
        within = {f"bserkit.{folder}"} | graph.find_descendants(f"bserkit.{folder}")
        imported = {one for module in within for one in graph.find_modules_directly_imported_by(module) if "." in one}
        known[folder] = {one.split(".")[1] for one in imported} & set(FOLDERS) - {folder}
    reached: dict[str, set[str]] = {}
    for folder in reversed(FOLDERS):
        reached[folder] = known[folder].union(*(reached[one] for one in known[folder]))
    return [
        (folder, one)
        for folder in FOLDERS
        for one in FOLDERS
        if one in known[folder] and not any(one in reached[other] for other in known[folder])
    ]


def architecture() -> str:
    """Return the page of folders and modules."""
    parts = [
        "# Architecture\n",
        WRITTEN,
        "Each folder imports only those below it; import-linter holds that in `make check`. All of them use the\n"
        "modules listed last, which import no folder. An arrow is an import that there is; those that follow from\n"
        "others are left out.\n",
        "```mermaid\nflowchart TD",
        *(f'    {folder}["{folder}/<br/>{described(folder).partition(": ")[2]}"]' for folder in FOLDERS),
        *(f"    {importer} --> {imported}" for importer, imported in imports()),
        "```\n",
    ]
    for folder in (*FOLDERS, ""):
        here = PACKAGE / folder if folder else PACKAGE
        parts.append(f"## `bserkit/{folder}/`\n" if folder else "## `bserkit/`\n")
        if folder:
            parts.append(f"{described(folder)}\n")
        modules = sorted(here.rglob("*.py") if folder else [*here.glob("*.py"), *here.glob("identity/*.py")])
        parts += [
            f"- `{path.relative_to(here)}`: {first_line(path)}"
            for path in modules
            if path.name != "__init__.py" or path == PACKAGE / "__init__.py"
        ]
        parts.append("")
    return "\n".join(parts)


#: The files that are tables, by what a row of each is.
TABLES = {
    schema.RESULTS: results.PartResult,
    schema.CONFUSIONS: results.ConfusionRow,
    schema.SEARCH: results.Weighting,
    schema.FOLDS: results.FoldMember,
    schema.FOLD_SUMMARIES: results.FoldSummary,
    schema.SKIPPED: results.LeftOut,
    schema.LEVELS: channels.Level,
    schema.COMBINATIONS: paper_tables.CombinationRow,
    schema.COMPARISON_ROWS: comparison.ComparisonRow,
}
#: What a researcher looks for, as MLflow is asked for it.
SEARCHES = {
    "The runs that two-stage fusion brought above a UAR of 0.4": "metrics.uar > 0.4 and params.fusion = 'two-stage'",
    "One pooler with some parameters": "params.pooler = 'block-max' and params.`pooler.blocks` = '2'",
    "Channels that do well alone": "metrics.`left/uar` > 0.4 and metrics.`right/uar` > 0.4",
    "Whose whole interval lies above chance of four emotions": "metrics.uar_low > 0.25",
    "The same recordings, labels and speakers": "tags.`corpus.fingerprint` LIKE '%'",
    "Speakers in training and in test: numbers not to be published": "tags.speaker_overlap LIKE '%'",
    "The runs of a sweep, by its id": "tags.`mlflow.parentRunId` = 'ID'",
    "Sweeps": "tags.`bserkit.kind` = 'sweep'",
    "What one version computed": "tags.`version.torch` LIKE '2.11%'",
}


def named(entries: list[schema.Named]) -> str:
    """Return a table of names."""
    rows = [[f"`{one.name}`", ", ".join(one.kinds), one.text] for one in entries]
    return markdown_table([["name", "of a", "what"], *rows], 3) + "\n"


def results_schema() -> str:
    """Return the page of everything that MLflow keeps of a run."""
    text = inspect.getdoc(schema).partition("\n\n")[2]
    parts = [
        "# Results in MLflow\n",
        WRITTEN,
        "An experiment holds runs, sweeps with a run below for each combination, comparisons, and below a run one for\n"
        f"each network that was fine-tuned.\n\n{text}\n",
        "## Artifacts\n",
        named(schema.ARTIFACTS),
        "Tables are comma-separated, in UTF-8. `bserkit.load_run(ID)` returns them as pandas tables. Their columns:\n",
        f"### {schema.PREDICTIONS}\n",
        "`utterance`, `speaker`, `fold`, `part`, `label` (what is true), `predicted`, `score_CLASS` for each class.\n",
    ]
    for name, row in TABLES.items():
        rows = []
        for one in fields(row):
            begin = one.metadata["begin"]
            column = one.name if begin is None else begin + re.findall(r"[A-Z]{2,}", one.metadata["text"])[0]
            older = f" Called `{one.metadata['older']}` in older runs." if one.metadata["older"] else ""
            rows.append([f"`{column}`", one.metadata["text"] + older])
        parts += [f"### {name}\n", markdown_table([["column", "what"], *rows], 2) + "\n"]
    settings = [[f"`{key}`", one.help] for key, one in SETTINGS.items() if one.logged]
    parts += [
        "## Metrics\n",
        named(schema.METRICS),
        "## Parameters\n",
        "A component is a parameter by its name, and each of its own parameters is `KIND.PARAMETER`: `pooler` and\n"
        "`pooler.blocks`. `backbone.weights_digest` and `protocol.digest` are the SHA-256 of the files they name.\n",
        markdown_table([["name", "what"], *settings], 2) + "\n",
        "## Tags\n",
        named(schema.TAGS),
        "## Searches\n",
        "To be typed into the search field of `bserkit ui`, or given to `mlflow.search_runs`:\n",
        markdown_table([["what", "search"], *([what, f"`` {one} ``"] for what, one in SEARCHES.items())], 2) + "\n",
    ]
    return "\n".join(parts).removesuffix("\n")


PAGES = {"plugins.md": plugins, "architecture.md": architecture, "results-schema.md": results_schema}

if __name__ == "__main__":
    for name, make in PAGES.items():
        (HERE / name).write_text(make(), encoding="utf-8")
