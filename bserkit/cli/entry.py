"""The command line. Help and completion are instant: what takes a second to import is imported by what needs it."""

from __future__ import annotations

import click

from bserkit.cli.audit import audit
from bserkit.cli.cache import cache
from bserkit.cli.check import check
from bserkit.cli.compare import compare
from bserkit.cli.components import components, plugins
from bserkit.cli.extract import extract
from bserkit.cli.group import Commands
from bserkit.cli.new import new
from bserkit.cli.report import report
from bserkit.cli.run import run
from bserkit.cli.sweep import sweep
from bserkit.cli.ui import ui


@click.group(
    cls=Commands,
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


for command in (run, sweep, compare, report, extract, audit, components, plugins, check, new, ui, cache):
    main.add_command(command)
