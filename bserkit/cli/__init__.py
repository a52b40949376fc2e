"""The command line. Help and completion are instant: what takes a second to import is imported by what needs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import traceback
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import click

from bserkit.cli.options import (
    CORPUS_HELP,
    cache_option,
    component_option,
    feature_options,
    given_plugins,
    given_settings,
    given_store,
    given_values,
    learning_options,
    microphones_option,
    plugin_options,
    show_failures,
)
from bserkit.errors import BserkitError, is_interrupt


class _Command(click.Command):
    """A command that takes ``-v`` behind its name too, where people type it."""

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, **attributes)

        def remember(ctx: click.Context, _: click.Parameter, given: bool) -> None:
            if given:
                ctx.find_root().params["verbose"] = True

        text = "Show the traceback of a failure."
        self.params.append(
            click.Option(["-v", "--verbose"], is_flag=True, expose_value=False, callback=remember, help=text)
        )


class _Commands(click.Group):
    """Turns failures into one paragraph and an exit code: 1 a run failed, 2 wrong usage."""

    command_class = _Command

    def main(self, *args: Any, **settings: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            # What a console cannot show, such as ± on one of ASCII alone, becomes a question mark.
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="replace")
        return super().main(*args, **settings)

    def invoke(self, ctx: click.Context) -> Any:
        signal.signal(signal.SIGTERM, _interrupt)
        sys.unraisablehook = _send_again
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except (Exception, KeyboardInterrupt) as error:
            _trace(ctx)
            code = _told(error)
            if is_interrupt(error):
                _leave(code)
            ctx.exit(code)


def _told(error: BaseException) -> int:
    """Tell a failure in one paragraph and return its exit code."""
    if is_interrupt(error):
        click.echo("Interrupted. Features computed so far are kept; the same command goes on from there.", err=True)
        return 1
    click.secho("Error: ", err=True, fg="red", bold=True, nl=False)
    if isinstance(error, BserkitError):
        click.echo(str(error), err=True)
        return error.exit_code
    notes = "".join(f"{note}\n" for note in getattr(error, "__notes__", ()))
    click.echo(
        f"{type(error).__name__}: {error}\n{notes}The same command with -v before it shows where: bserkit -v ...",
        err=True,
    )
    return 1


def _leave(code: int) -> None:
    """End the process where threads are still at work, for which Python would wait; what they write is whole or not."""
    if any(not one.daemon and one is not threading.main_thread() for one in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _trace(ctx: click.Context) -> None:
    """Show where the failure that is being handled came from, if that was asked for."""
    if ctx.find_root().params.get("verbose"):
        traceback.print_exc()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _send_again(lost: sys.UnraisableHookArgs) -> None:
    """Repeat an interrupt that fell into a destructor or a callback, whose exceptions Python can only print."""
    if lost.exc_type is KeyboardInterrupt:
        main_thread = threading.main_thread().ident or 0
        threading.Timer(0.1, signal.pthread_kill, (main_thread, signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(lost)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog='Completion, component names included: eval "$(_BSERKIT_COMPLETE=bash_source bserkit)", or zsh_source.',
)
@click.version_option(package_name="bserkit")
@click.option("-v", "--verbose", is_flag=True, help="Show the traceback of a failure.")
def main(verbose: bool) -> None:
    """Binaural speech emotion recognition: from stereo speech to tracked, honest results.

    \b
    Try it without any data:     bserkit run
    On a corpus of your own:     bserkit run PATH/TO/CORPUS --protocol loso
    Another pooler and fusion:   bserkit run PATH/TO/CORPUS --pooler global-avg --fusion feature
    The paper's tables:          bserkit sweep PATH/TO/CORPUS
    Compare what they reached:   bserkit compare --best 3
    Hand one on as a page:       bserkit report RUN
    Look at every run:           bserkit ui
    """


@main.command()
@click.argument("data", required=False, type=click.Path())
@learning_options
@feature_options
def run(data: str | None, **given: Any) -> None:
    """Learn from a corpus of stereo speech and evaluate on speakers that were never heard.

    DATA is a folder or a csv manifest; without it, a small synthetic corpus is used. Features are computed once:
    another pooler, classifier or fusion on the same corpus takes seconds. Every run is kept in MLflow.

    \b
    Components are spelt NAME:KEY=VALUE,KEY=VALUE, such as block-max:blocks=3,pyramid=true.
    'bserkit components' lists them all with their parameters.

    \b
    bserkit run
    bserkit run corpora/emovo --mono duplicate --backbone torchvision:arch=squeezenet1_1,weights=net.pth
    bserkit run corpora/emovo --mono duplicate --pooler block-max:blocks=3 --fusion feature
    bserkit run manifest.csv --protocol predefined:train=train,test=val
    bserkit run corpora/emovo --protocol file:path=folds.csv      # columns utterance, fold, part (train or test)
    """
    from rich.console import Console

    from bserkit.cli.console import ConsoleReporter, show_cautions, show_results
    from bserkit.experiments.run import run as run_experiment

    settings, plugins, store = given_settings({"data": data, **given})
    result = run_experiment(settings, plugins, store, ConsoleReporter(quiet=given["quiet"]))
    measures = result.evaluation.measures()
    if given["quiet"]:
        click.echo(
            f"accuracy={measures.accuracy:.4f} uar={measures.uar:.4f} macro_f1={measures.macro_f1:.4f} "
            f"run={result.run_id}" + "".join(f" {name}=true" for name in result.cautions)
        )
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    show_results(console, result.evaluation)
    show_cautions(console, result.cautions)
    click.echo(
        f"Run {result.run_id} in experiment {settings.experiment!r}. Compare runs with: bserkit compare, bserkit ui"
    )


@main.command()
@click.argument("data", required=False, type=click.Path())
@partial(learning_options, several=True)
@click.option(
    "--reference",
    "references",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path),
    help="One more run, to compare with: the settings in this TOML file stand over those of the first combination.",
)
@partial(feature_options, several=True)
def sweep(data: str | None, references: tuple[Path, ...], **given: Any) -> None:
    """Run every combination of several components and print the tables of the paper.

    Options that name a component may be given several times. Each combination is an ordinary run in MLflow, below one
    run of the sweep; all are on the same folds, and features are computed and pooled once. A sweep that was broken off
    goes on when the same command is typed again. One that fails in a combination does all others.

    \b
    What is printed, and kept as tables.md, results.csv and confusion.png:
    Table 1           each channel alone, with the first pooler
    Tables 2 to 5     the poolers, for each channel
    Tables 6 and 7    score-level fusion with its weights, and feature-level fusion
    Table 8           the first combination against each --reference, with tests
    Figures 4 to 6    confusion matrices

    two-stage:tune=oracle searches its weights on the evaluated items too, as the paper did. That is shown beside the
    result with the optimism, never as the result. The best row of a table is picked on the evaluated data as well: the
    combination that you name first is the one that you chose beforehand.

    \b
    bserkit sweep corpora/emovo --mono duplicate --backbone torchvision:arch=squeezenet1_1,weights=net.pth
    bserkit sweep corpora/emovo --mono duplicate --pooler block-max --pooler global-max --fusion two-stage --fusion mean
    bserkit sweep corpora/emovo --channels lr,ms --channels mono --mono duplicate --reference opensmile.toml
    """
    from rich.console import Console

    from bserkit.cli.console import ConsoleReporter, show_page
    from bserkit.experiments.sweep import AXES, combinations
    from bserkit.experiments.sweep import sweep as run_sweep

    grid = {axis: given.pop(axis) for axis in AXES}
    values, plugins = given_values({"data": data, **given})
    planned = combinations(values, grid, references, plugins)
    quiet = given["quiet"]
    swept = run_sweep(
        planned, given["run_name"], plugins, given_store(values.get("cache")), ConsoleReporter(quiet=quiet)
    )
    if quiet:
        for one in swept.outcomes:
            numbers = " ".join(f"{name}={one.run.metrics[name]:.4f}" for name in ("accuracy", "uar", "macro_f1"))
            click.echo(f"{numbers} run={one.run.run_id} {one.name}")
    else:
        show_page(Console(highlight=False, width=None if sys.stdout.isatty() else 160), swept.page)
    experiment = planned[0].settings.experiment
    click.echo(f"sweep={swept.run_id}" if quiet else f"Sweep {swept.run_id} in experiment {experiment!r}.")
    if swept.failed:
        reasons = "".join(f"\n  {one.combination.name}: {one.reason}" for one in swept.failed)
        raise BserkitError(
            f"{len(swept.failed)} of {len(planned)} combinations failed:{reasons}\nThe same command runs these alone "
            "and keeps the others."
        ) from swept.failed[0].error


@main.command()
@click.argument("references", metavar="[RUN RUN...]", nargs=-1)
@click.option("--experiment", metavar="NAME", default="bserkit", show_default=True, help="Where to look for the runs.")
@click.option("--best", metavar="N", type=click.IntRange(min=2), help="Compare the N finished runs with the best UAR.")
@click.option("--part", metavar="NAME", default="fusion", show_default=True, help="A channel, a transform or fusion.")
@click.option(
    "--resamples",
    metavar="N",
    type=click.IntRange(100, 100_000),
    default=2000,
    show_default=True,
    help="How often speakers are drawn for an interval; also signs for a test, beyond 12 speakers.",
)
@click.option(
    "--seed", metavar="N", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the draws."
)
def compare(references: tuple[str, ...], experiment: str, best: int | None, part: str, **draws: int) -> None:
    """Compare finished runs on the same items: are they different, or were the speakers lucky?

    RUN is a run's id, the first characters of it, or its name (the most recent finished one of that name). Runs whose
    items, labels or folds differ are refused. The tables are kept in MLflow, on a run named 'compare ...'.

    \b
    Intervals        draw whole speakers anew: what to expect on other speakers of this kind.
    Permutation p    swaps the two runs speaker by speaker: the one to trust.
    McNemar p        takes every item for independent: the one that papers print.
    After Holm       the same p, corrected for the number of pairs. Look at these.

    \b
    With fewer than 6 speakers no permutation p can fall below 0.05, and with fewer than 10 an interval is rough.
    More speakers help; more items of the same speakers hardly do.

    \b
    bserkit compare 3f2a 91bc
    bserkit compare "csv block-max two-stage" 91bc --part left
    bserkit compare --best 4 --experiment emovo
    """
    from rich.console import Console

    from bserkit.cli.console import show_comparison
    from bserkit.errors import UsageError
    from bserkit.evaluation.comparison import compare as compare_runs
    from bserkit.evaluation.comparison import comparison_rows, markdown, read_predictions
    from bserkit.evaluation.results import FOLDS
    from bserkit.text import csv_text
    from bserkit.tracking.runs import best_runs, find_run, log_comparison, read_artifact_text

    if best and references:
        raise UsageError("Give runs or --best N, not both.")
    runs = best_runs(experiment, best) if best else [find_run(one, experiment) for one in references]
    ids = [run.run_id for run in runs]
    if len(runs) < 2:
        found = f"experiment {experiment!r} has {len(runs)} that finished" if best else f"{len(runs)} given"
        raise UsageError(f"A comparison needs two runs; {found}. Try: bserkit compare RUN RUN, or --best 2.")
    if twice := [reference for reference, one in zip(references, ids, strict=False) if ids.count(one) > 1]:
        raise UsageError(f"{', '.join(twice)} mean the same run. Runs of one name are told apart by their ids.")
    decisions = [
        read_predictions(run, read_artifact_text(run, "predictions.csv"), read_artifact_text(run, FOLDS), part)
        for run in runs
    ]
    chosen = ["The runs were chosen for being best on these very items, so the best owes some of its lead to luck."]
    comparison = compare_runs(decisions, part, draws["resamples"], draws["seed"], notes=chosen if best else [])
    show_comparison(Console(highlight=False, width=None if sys.stdout.isatty() else 160), comparison)
    run_id, place = log_comparison(
        runs[0].experiment,
        f"compare {' '.join(one[:8] for one in ids)}",
        {"runs": " ".join(ids), "part": part} | {name: str(value) for name, value in draws.items()},
        {"comparison.csv": csv_text(comparison_rows(comparison)), "comparison.md": markdown(comparison)},
    )
    click.echo(
        f"Kept as run {run_id} in experiment {runs[0].experiment!r}: comparison.csv and comparison.md in {place}"
    )


@main.command()
@click.argument("reference", metavar="RUN")
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The page to write.  [default: report-ID.html here]",
)
@click.option("--experiment", metavar="NAME", default="bserkit", show_default=True, help="Where to look for the run.")
def report(reference: str, out: Path | None, experiment: str) -> None:
    """Write all that is kept of a finished run as one HTML page, for people who have nothing but a browser.

    RUN is a run's id, the first characters of it, or its name (the most recent finished one of that name). The page
    holds the numbers with their intervals, who was learned from and who was evaluated, every parameter and version,
    confusion matrices, fusion weights, training curves, spectrograms, and the configuration that gives the run again.
    It opens without a network, prints, and the same run always gives the same page.

    \b
    bserkit report 3f2a
    bserkit report "csv block-max two-stage" --out paper/appendix.html
    """
    from bserkit.experiments.export import check_writable
    from bserkit.reporting.page import page
    from bserkit.reporting.report import NEEDED, WANTED, Network, gather
    from bserkit.store import write_whole
    from bserkit.tracking.runs import curves_of, find_run, networks_of, read_artifacts

    if out:
        check_writable(out)
    found = find_run(reference, experiment)
    out = out or Path(f"report-{found.run_id[:8]}.html")
    check_writable(out)
    networks = [Network(one.parameters, one.tags, curves_of(one)) for one in networks_of(found)]
    made = gather(found, read_artifacts(found, NEEDED, WANTED), networks)
    write_whole(out, page(made).encode())
    click.echo(f"Report of run {found.run_id} ({found.name}) in {out.resolve()}")


@main.command()
@click.argument("data", type=click.Path())
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@component_option("--pooler", "pooler", "Write one vector an utterance and channel instead of one a segment.")
@feature_options
def extract(data: str, out: Path, **given: Any) -> None:
    """Write the features of DATA with their metadata to OUT, a Parquet file.

    One row a segment and channel, or with --pooler one an utterance and channel. pandas, polars and DuckDB read it.

    \b
    bserkit extract corpora/emovo emovo.parquet --mono duplicate
    bserkit extract corpora/emovo pooled.parquet --mono duplicate --pooler block-max
    """
    from bserkit.cli.console import ConsoleReporter
    from bserkit.corpora.checking import check_corpus
    from bserkit.corpora.reading import read_corpus
    from bserkit.errors import UsageError
    from bserkit.experiments.export import check_writable, export
    from bserkit.features.extraction import extract as extract_features
    from bserkit.features.extraction import pending

    check_writable(out)
    reporter = ConsoleReporter(quiet=given["quiet"])
    pooled = given.pop("pooler")
    settings, _, store = given_settings({"data": data, "pooler": pooled, **given})
    if settings.finetune:
        raise UsageError(
            "extract writes features of one backbone, but fine-tuning makes one a fold and channel. Leave finetune out "
            "of the configuration file, and name the network to use with --backbone NAME:weights=PATH."
        )
    assert settings.data is not None  # noqa: S101
    assert settings.corpus is not None  # noqa: S101
    settings.extraction.recipes()
    corpus = read_corpus(settings.data, settings.corpus)
    checked = check_corpus(
        corpus, settings.extraction.needs_stereo, settings.mono, settings.microphones, store, reporter
    )
    for one in checked.corpus.skipped:
        reporter.say(f"Left out: {one.item}: {one.reason}")
    for note in checked.notes:
        reporter.say(f"Note: {note}.")
    work = pending(checked.corpus.utterances, checked.digests, settings.extraction, store)
    extract_features(work, store, reporter)
    rows = export(out, settings, checked, settings.pooler if pooled else None, store, reporter)
    click.echo(f"{rows} rows of {len(checked.corpus.utterances)} utterances in {out}")


@main.command()
@click.argument("data", type=click.Path(path_type=Path))
@component_option("--corpus", "corpus", CORPUS_HELP)
@microphones_option
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write all that was found as Markdown (FILE.md), or all pairs that share sound as csv.",
)
@cache_option
@plugin_options
@click.option("--quiet", "-q", is_flag=True, help="Show the findings alone.")
def audit(data: Path, corpus: str | None, microphones: str | None, out: Path | None, quiet: bool, **given: Any) -> None:
    """Look for what could fool the numbers of DATA, before anything is learned.

    Findings come first to last by how much they can fool the numbers: sound or names shared between speakers; labels
    that a silent Side gives away; labels, levels and delays that go with speakers; silent, clipped and unusable
    recordings.

    \b
    bserkit audit corpora/emovo
    bserkit audit corpora/emovo --out emovo.md
    bserkit audit corpora/urdu --out shared.csv
    """
    from rich.console import Console

    from bserkit.cli.console import ConsoleReporter, show_audit
    from bserkit.corpora.audit.audit import audit as audit_corpus
    from bserkit.corpora.audit.audit import duplicate_rows, markdown
    from bserkit.corpora.checking import choose_microphones, look_at
    from bserkit.corpora.reading import read_corpus
    from bserkit.experiments.export import check_writable
    from bserkit.experiments.settings import read_microphones, reader_for
    from bserkit.text import csv_text

    if out:
        check_writable(out)
    plugins = given_plugins(given)
    show_failures(plugins)
    store, reporter = given_store(given["cache"]), ConsoleReporter(quiet)
    chosen = read_microphones(microphones or "refuse")
    read = choose_microphones(read_corpus(data, reader_for(data, corpus, plugins)), chosen, reporter)
    found = audit_corpus(read, look_at(read, store, reporter), store, reporter)
    show_audit(Console(highlight=False, width=None if sys.stdout.isatty() else 160), found, quiet)
    if out:
        page = out.suffix.lower() == ".md"
        out.write_text(markdown(found) if page else csv_text(duplicate_rows(found)), encoding="utf-8")


@main.command()
@click.argument("kind", required=False)
@plugin_options
def components(kind: str | None, **given: Any) -> None:
    """List the components of every KIND, or of one, with their parameters and defaults.

    \b
    bserkit components
    bserkit components pooler
    """
    from bserkit.errors import UsageError, nearest
    from bserkit.plugins.registry import KINDS

    plugins = given_plugins(given)
    if kind and kind not in KINDS:
        raise UsageError(f"There is no kind {kind!r}{nearest(kind, KINDS)}. Known: {', '.join(KINDS)}.")
    for one in (kind,) if kind else KINDS:
        click.secho(one, bold=True)
        for name, registered in plugins.of_kind(one).items():
            for entry in registered:
                summary = (entry.component.__doc__ or "").strip().splitlines()
                origin = "" if entry.source.name == "built-in" else f"  [{entry.source.name}: {entry.source.location}]"
                click.echo(f"  {name:<14} {summary[0] if summary else ''}{origin}")
                for parameter, default, type_, text in entry.component.describe_parameters():
                    click.echo(f"      {parameter}={default}  ({type_})  {text}")
    show_failures(plugins)


@main.command()
@plugin_options
def plugins(**given: Any) -> None:
    """List where components come from, and the plugins that failed to load and why."""
    loaded = given_plugins(given)
    for source in loaded.sources:
        names = [f"{one.component.kind} {one.component.name}" for one in loaded.registered if one.source == source]
        click.echo(f"{source.name} {source.version}  {source.location}")
        click.echo(f"    {', '.join(names) or 'nothing'}")
    show_failures(loaded)


@main.command()
@click.option("--port", default=5000, show_default=True, help="Port on this machine.")
def ui(port: int) -> None:
    """Open the MLflow UI on the runs of this folder, at http://127.0.0.1:PORT, for this machine alone."""
    from bserkit.tracking.runs import tracking_uri, ui_command

    if tracking_uri().startswith("http"):
        click.echo(f"Runs are kept by the MLflow server at {tracking_uri()}: open that address in a browser.")
        return
    click.echo(f"MLflow UI at http://127.0.0.1:{port} (stop it with Ctrl-C)")
    raise SystemExit(subprocess.call(ui_command(port)))


@main.group(invoke_without_command=True)
@cache_option
@click.pass_context
def cache(ctx: click.Context, cache: str | None) -> None:
    """Show what the feature store holds and how much room it takes; 'prune' deletes."""
    from datetime import datetime

    store = given_store(cache)
    ctx.obj = store
    if ctx.invoked_subcommand:
        return
    entries = list(store.entries())
    for entry in entries:
        used = datetime.fromtimestamp(entry.used).strftime("%Y-%m-%d %H:%M")
        click.echo(f"{entry.size / 1e6:9.1f} MB  {entry.files:6d} files  used {used}  {entry.described()}")
    click.echo(f"{sum(entry.size for entry in entries) / 1e6:9.1f} MB in {store.root}")


@cache.command()
@click.option(
    "--older-than", "days", metavar="DAYS", type=float, default=0.0, help="Keep what was used within so many days."
)
@click.option("--old-formats", is_flag=True, help="Delete nothing but what earlier versions kept, which is not read.")
@click.pass_obj
def prune(store: Any, days: float, old_formats: bool) -> None:
    """Delete features, all or those not used for some days. They are computed anew when needed."""
    files, size = store.prune(days, old_formats)
    click.echo(f"Deleted {files} files, {size / 1e6:.1f} MB.")
