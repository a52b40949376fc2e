"""Sweep EMOVO and write docs/results.md: the paper's tables, and what could fool them.

    python examples/emovo_results.py CORPUS SQUEEZENET_WEIGHTS

Runs go to MLflow like any others. Features are computed in the first sweep with a network and reused by all others; a
sweep that was broken off goes on where it was. openSMILE's functionals stand beside where that package is installed.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import re
import shlex
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

EXAMPLES = Path(__file__).parent
SQUEEZENET = "torchvision:arch=squeezenet1_1,weights=squeezenet1_1.pth"
STEREO = ("corpora/emovo", "--mono", "duplicate")
FUSIONS = ("--fusion", "two-stage:tune=oracle", "--fusion", "feature", "--fusion", "mean")
PARTS = ("left", "right", "mid", "side", "lr", "ms")
#: openSMILE eGeMAPSv02 on the mono mix, the same folds; measured outside this project.
REFERENCE = 0.337


@dataclass(frozen=True)
class Swept:
    """One sweep: the command as a reader would type it, and what MLflow kept of it."""

    command: str
    parameters: dict[str, str]
    tables: str
    results: list[dict[str, str]]
    predictions: Callable[[str], list[dict[str, str]]]

    def uar(self, name: str) -> float:
        """Return the UAR of one combination."""
        return float(next(row["uar"] for row in self.results if row["name"] == name))


def sweep(arguments: Iterable[str], places: dict[str, str]) -> Swept:
    """Run ``bserkit sweep`` with the arguments, in which ``places`` stand for paths of this machine."""
    command = shlex.join(["bserkit", "sweep", *arguments])
    print(command, flush=True)
    typed = command
    for shown, path in places.items():
        typed = typed.replace(shown, path)
    program, *words = shlex.split(typed)
    program = str(Path(sys.executable).with_name(program))
    done = subprocess.run([program, *words], stdout=subprocess.PIPE, text=True)
    found = re.search(r"^Sweep ([0-9a-f]{32}) in experiment", done.stdout, re.MULTILINE)
    if done.returncode or not found:
        sys.exit("The page is not written: a sweep did not end well. The same command goes on from there.")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient

        from bserkit.tracking.place import tracking_uri

        client = MlflowClient(tracking_uri())

    def rows(run: str, file: str) -> list[dict[str, str]]:
        with Path(client.download_artifacts(run, file)).open(encoding="utf-8") as stream:
            return list(csv.DictReader(stream))

    tables = Path(client.download_artifacts(found[1], "tables.md")).read_text(encoding="utf-8")
    for shown, path in places.items():
        tables = tables.replace(path, shown)
    results = rows(found[1], "combinations.csv")
    run_of = {row["name"]: row["run"] for row in results}
    parameters = client.get_run(found[1]).data.params
    return Swept(command, parameters, tables, results, lambda name: rows(run_of[name], "predictions.csv"))


def section(title: str, text: str, swept: Swept, body: str) -> str:
    """Return a section: the sweep's command, and what came of it."""
    return f"## {title}\n\n{text}\n\n```console\n{swept.command}\n```\n\n{body.strip()}\n"


def whole(swept: Swept) -> str:
    """Return all tables of a sweep, as parts of a section."""
    _, _, tables = swept.tables.partition("\n\n")
    return f"\n{tables}".replace("\n## ", "\n### ")


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    header = list(header)
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def percent(share: str | float) -> str:
    """Spell a share as the tables do; nothing where there is none."""
    return "" if share == "" else f"{100 * float(share):.2f}"


def brief(swept: Swept) -> str:
    """Return the UAR of every part, a line a combination, with the fusion's 95% interval over speakers."""
    parts = [part for part in PARTS if f"{part}/uar" in swept.results[0]]
    rows = [
        [
            row["name"],
            *(percent(row[f"{part}/uar"]) for part in parts),
            f"{percent(row['uar'])} [{percent(row['uar_low'])}, {percent(row['uar_high'])}]",
        ]
        for row in swept.results
    ]
    return table(["UAR (%)", *parts, "fusion"], rows)


def silent_side(kept: Swept, skipped: Swept) -> str:
    """Return what the recordings with a silent Side do to the numbers."""

    def line(swept: Swept, policy: str, name: str) -> list[str]:
        row = next(row for row in swept.results if row["name"] == name)
        predictions = swept.predictions(name)
        told = []
        for part in ("side", "fusion"):
            wanted = ("f1", "neutral", part)
            chosen = [one for one in predictions if (one["speaker"], one["label"], one["part"]) == wanted]
            told.append(f"{sum(one['predicted'] == 'neutral' for one in chosen)} of {len(chosen)}")
        utterances = str(sum(one["part"] == "fusion" for one in predictions))
        return [f"`--mono {policy}`", utterances, *(percent(row[key]) for key in ("side/uar", "ms/uar", "uar")), *told]

    header = ["", "utterances", "side UAR (%)", "ms UAR (%)", "fusion UAR (%)"]
    return table(
        [*header, "f1's neutral found by side", "by the fusion"],
        [
            line(kept, "duplicate", "torchvision block-max two-stage"),
            line(skipped, "skip", "block-max two-stage"),
        ],
    )


def page(measured: Callable[..., Swept]) -> str:
    """Sweep everything and return the page."""
    references = [EXAMPLES / "mono.toml"]
    if find_spec("opensmile"):
        references += sorted(EXAMPLES.glob("opensmile-*.toml"))
    backbones = ("--backbone", SQUEEZENET, "--backbone", "alexnet:weights=random")
    held_against = [word for path in references for word in ("--reference", f"examples/{path.name}")]
    main = measured(*STEREO, *backbones, *FUSIONS, *held_against)
    mono = measured("corpora/emovo", "--channels", "mono", "--backbone", SQUEEZENET, "--fusion", "mean")
    clipped = measured(*STEREO, "--backbone", f"{SQUEEZENET},picture=clip", "--fusion", "mean")
    skipped = measured(
        "corpora/emovo", "--mono", "skip", "--backbone", SQUEEZENET, "--pooler", "block-max", "--fusion", "two-stage"
    )  # fmt: skip
    tuned = measured(
        *STEREO, "--backbone", SQUEEZENET, "--protocol", "losgo:groups=2", "--finetune", "none", "--finetune",
        "sgd:epochs=4", "--pooler", "block-max", "--fusion", "two-stage",
    )  # fmt: skip
    paper = main.uar("torchvision block-max two-stage")
    pretrained = [row for row in main.results if row["name"].startswith("torchvision ")]
    best = max(pretrained, key=lambda row: float(row["uar"]))
    verdict = "above" if paper > REFERENCE else "below"
    beside = ", ".join(f"{row['name']} {percent(row['uar'])}" for row in main.results if row["kind"] == "reference")
    libraries = ("bserkit", "torch", "torchvision", "torchaudio", "scikit-learn")
    sections = [
        section(
            "The paper's tables",
            "`torchvision` is the pretrained SqueezeNet, frozen. `alexnet` is the paper's network at random initial "
            "values, untrained:\nwhat architecture and pooling give by themselves. Table 8 holds the first combination "
            "against references on the same\nutterances in the same folds, with paired tests.",
            main,
            whole(main),
        ),
        section(
            "Fine-tuned",
            "Two speaker groups: the networks of a fold learn from three speakers and are evaluated on the others. "
            "Frozen features\nstand beside them on the same folds. Four epochs instead of the paper's 300 are what a "
            "processor does in minutes: enough\nto show that it works, not what fine-tuning can give.",
            tuned,
            brief(tuned),
        ),
        section("Mono mix", "What most of the field does: one channel, the mean of both.", mono, brief(mono)),
        section(
            "Grey levels clipped instead of stretched",
            "How planes become pictures is left open by the paper. `picture=stretch`, used above, takes each plane of "
            "each segment\nfrom its lowest to its highest value; `picture=clip` shows three deviations either side of "
            "the utterance's mean. Stretching\nbecame the default after a look at numbers like these, so it owes them "
            "a little optimism.",
            clipped,
            brief(clipped),
        ),
        section(
            "The silent Side",
            "13 of f1's 14 neutral recordings have left equal to right, and so a silent Side; of all others only "
            '`rab-f1-b1` has.\nWhere f1 is in training, a silent Side can be learned as "neutral"; where f1 is '
            "evaluated, nothing in training looks\nlike it.",
            skipped,
            silent_side(main, skipped),
        ),
    ]
    return f"""# Results on EMOVO

<!-- Written by examples/emovo_results.py; do not edit. -->

Written by `python examples/emovo_results.py CORPUS SQUEEZENET_WEIGHTS`. EMOVO: 588 utterances, 6 speakers, 7 emotions,
14 utterances a speaker and emotion. Leave one speaker out: every number is of speakers that were never seen in
training, over all utterances of all folds. As classes are balanced, UAR and accuracy agree. Chance is 14.29 %. Features
are frozen but in the section on fine-tuning, which is the paper's main ingredient. `squeezenet1_1.pth` is torchvision's
ImageNet network.

## Beside the reference

openSMILE on the mono mix with a scaled linear SVM and a nested search of its cost, leave one speaker out, measured
outside this project: UAR **{percent(REFERENCE)}** % with eGeMAPSv02 (95% by a bootstrap over speakers: 24 to 43),
32.1 % with ComParE 2016. In the same sweep as ours: {beside}.

The paper's pipeline with frozen features (block-max, two-stage) reaches **{percent(paper)}**, {verdict} the
reference. The best of the {len(pretrained)} combinations with the pretrained network ({best["name"]}) reaches
{percent(best["uar"])}, but it was picked by looking at the test data. With six speakers the reference's own
interval is 19 wide: no difference here is evidence that one is better than the other.

{chr(10).join(sections)}
Made with {", ".join(f"{name} {version(name)}" for name in libraries)}; {platform.machine()} processor, precision \
{main.parameters["precision"]}.
"""


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--out", type=Path, default=EXAMPLES.parent / "docs" / "results.md")
    given = parser.parse_args()
    places = {"corpora/emovo": str(given.corpus.resolve()), "squeezenet1_1.pth": str(given.weights.resolve())}
    places |= {f"examples/{path.name}": str(path.resolve()) for path in EXAMPLES.glob("*.toml")}
    given.out.write_text(page(lambda *arguments: sweep(arguments, places)), encoding="utf-8")
    print(f"Wrote {given.out}")


if __name__ == "__main__":
    main()
