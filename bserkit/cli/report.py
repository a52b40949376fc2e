"""``bserkit report``: a finished run as one HTML page."""

from __future__ import annotations

from pathlib import Path

import click

from bserkit.cli.group import Command


@click.command(cls=Command)
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
    holds the numbers with their intervals, who was in training and who in test, every parameter and version,
    confusion matrices, fusion weights, training curves, spectrograms, and the configuration that gives the run again.
    It opens without a network, prints, and the same run always gives the same page.

    \b
    bserkit report 3f2a
    bserkit report "csv alexnet block-max two-stage" --out paper/appendix.html
    """
    from bserkit.experiments.export import check_writable
    from bserkit.reporting.report import NEEDED, WANTED, Network, gather, page
    from bserkit.store import write_whole
    from bserkit.tracking.finished import find_run, read_artifacts
    from bserkit.tracking.networks import curves_of, networks_of

    if out:
        check_writable(out)
    found = find_run(reference, experiment)
    out = out or Path(f"report-{found.run_id[:8]}.html")
    check_writable(out)
    networks = [Network(one.parameters, one.tags, curves_of(one)) for one in networks_of(found)]
    made = gather(found, read_artifacts(found, NEEDED, WANTED), networks)
    write_whole(out, page(made).encode())
    click.echo(f"Report of run {found.run_id} ({found.name}) in {out.resolve()}")
