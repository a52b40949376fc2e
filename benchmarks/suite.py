"""Every benchmark, one table: what was measured, the goal, and how it changed since the committed figures.

    python benchmarks/suite.py [CORPUS WEIGHTS] [--only NAME] [--write]

CORPUS is EMOVO's folder, WEIGHTS a state dict of torchvision's SqueezeNet 1.1; without them, what needs real speech is
left out. Each benchmark runs in a process of its own, one after the other, which takes about ten minutes on two quiet
cores. --write keeps the figures in benchmarks/figures.json and in docs/speed.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from figures import Figure

HERE = Path(__file__).resolve().parent
KEPT, PAGE = HERE / "figures.json", HERE.parent / "docs" / "speed.md"
BEGIN, END = "<!-- figures: written by benchmarks/suite.py -->", "<!-- end of figures -->"
#: A change for the worse by more than this share is called a regression: less is what runs differ by.
NOISE = 0.15


def scripts(corpus: Path | None, weights: Path | None, cache: Path) -> dict[str, list[str] | None]:
    """Return each benchmark's arguments, in the order in which they run; None where it needs what was not given."""
    speech = [str(corpus)] if corpus else None
    squeezenet = f"torchvision:arch=squeezenet1_1,weights={weights}"
    return {
        "nested_search": [],
        "finetune": [],
        "warm": [*speech, str(weights), "--cache", str(cache)] if speech else None,
        # After warm, whose features in fp32 it finds there.
        "half_precision": [*speech, "--backbone", squeezenet, "--mono", "duplicate", "--cache", str(cache)]
        if speech
        else None,
        "extraction": [*speech, "--backbone", "alexnet:weights=random"] if speech else None,
        "near_duplicates": speech,
        # Without a network, which would take minutes and hide the rest of the memory behind its own.
        "memory": [*speech, "--backbone", "none"] if speech else None,
    }


def measured(only: str | None, corpus: Path | None, weights: Path | None) -> dict[str, Any]:
    """Run the benchmarks and return what each wrote, by its name."""
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments in scripts(corpus, weights, Path(folder) / "cache").items():
            if (only and name != only) or not (HERE / f"{name}.py").exists():
                continue
            if arguments is None:
                print(f"{name}: left out, since it needs CORPUS and WEIGHTS", flush=True)
                continue
            out = Path(folder) / f"{name}.json"
            print(f"{name}: running ...", flush=True)
            command = [sys.executable, str(HERE / f"{name}.py"), *arguments, "--json", str(out)]
            ended = subprocess.run(command, capture_output=True, text=True)
            if ended.returncode or not out.exists():
                print(f"{name}: FAILED with {ended.returncode}\n{ended.stderr[-2000:]}", flush=True)
                continue
            results[name] = json.loads(out.read_text(encoding="utf-8"))
    return results


def figure_of(kept: Mapping[str, Any]) -> Figure:
    """Return a figure from its JSON."""
    return Figure(float(kept["value"]), kept["unit"], kept["better"], kept["goal"])


def table(results: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """Return the lines of a table: figure, value, goal, what was committed, the change."""
    rows = [("figure", "value", "goal", "before", "change")]
    for name, result in results.items():
        for label, kept in result["figures"].items():
            figure = figure_of(kept)
            goal = "" if figure.goal is None else f"{figure.goal:g} {'met' if figure.met() else 'NOT MET'}"
            earlier = before.get(name, {}).get("figures", {}).get(label)
            previous, changed = "", ""
            if earlier:
                better = figure.change(earlier["value"])
                previous = f"{earlier['value']:.4g}"
                changed = f"{100 * better:+.0f}%" + (" REGRESSION" if better < -NOISE else "")
            rows.append((label, f"{figure.value:.4g} {figure.unit}".strip(), goal, previous, changed))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def markdown(results: Mapping[str, Any]) -> str:
    """Return the table of the committed figures that have a goal, with the machine."""
    if not results:
        return "Nothing is measured yet: `python benchmarks/suite.py CORPUS WEIGHTS --write`."
    lines = ["| | measured | goal |", "|---|---|---|"]
    for result in results.values():
        for label, kept in result["figures"].items():
            figure = figure_of(kept)
            if figure.goal is not None:
                sign = "at least" if figure.better == "higher" else "at most"
                met = "" if figure.met() else ", not met"
                lines.append(
                    f"| {label} | {figure.value:.4g} {figure.unit} | {sign} {figure.goal:g} {figure.unit}{met} |"
                )
    machine = next(iter(results.values()))["machine"]
    notes = [note for result in results.values() for note in result.get("notes", []) if note.startswith("no GPU here")]
    lines += [
        "",
        f"On {machine['processor']}, {machine['cores']} cores, torch {machine['torch']}."
        + "".join(f" {note[0].upper()}{note[1:]}." for note in notes),
    ]
    return "\n".join(line.replace("  ", " ").rstrip() for line in lines)


def with_table(page: str, results: Mapping[str, Any]) -> str:
    """Return the page with the table between its markers."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{markdown(results)}\n{END}{after}"


def kept_figures() -> dict[str, Any]:
    """Return the committed figures, by benchmark."""
    return json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}


def main() -> int:
    """Run, compare, and keep if asked to."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("corpus", type=Path, nargs="?")
    options.add_argument("weights", type=Path, nargs="?")
    options.add_argument("--only", metavar="NAME", choices=list(scripts(None, None, Path())), help="run this one alone")
    options.add_argument("--write", action="store_true", help="keep the figures, as what the next run is compared with")
    given = options.parse_args()
    if given.corpus and not given.weights:
        options.error("CORPUS needs WEIGHTS beside it")
    before = kept_figures()
    results = measured(given.only, given.corpus and given.corpus.resolve(), given.weights and given.weights.resolve())
    print("\n".join(["", *table(results, before)]))
    for result in results.values():
        for note in result.get("notes", []):
            print(f"{result['benchmark']}: {note}")
    if given.write:
        together = before | results
        KEPT.write_text(json.dumps(together, indent=1) + "\n", encoding="utf-8")
        PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), together), encoding="utf-8")
    return 0 if results else 1


if __name__ == "__main__":
    sys.exit(main())
