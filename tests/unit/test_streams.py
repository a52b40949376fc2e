"""What stands on standard output: results alone, on a console of any encoding."""

import io
import os
import sys

import click
import pytest

from bserkit.cli import main
from bserkit.tracking.runs import tracked_run


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", b"? ?a?\n"), ("cp1252", b"\xb1 ?a?\n")])
def test_what_a_console_cannot_show_is_a_question_mark(monkeypatch, encoding, shown):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding, newline="\n"))
    say = click.Command("say", callback=lambda: print("± \u0308a\udcff"))
    type(main)("own", commands={"say": say}).main(["say"], standalone_mode=False)
    sys.stdout.flush()
    assert written.getvalue() == shown


def test_a_servers_addresses_stay_off_standard_output(monkeypatch, tmp_path, capsys):
    from mlflow.tracking._tracking_service import client

    monkeypatch.delenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)
    # MLflow prints the addresses of runs in what it takes for a server's store.
    monkeypatch.setattr(client, "RestStore", object)
    monkeypatch.setattr(client, "get_workspace_url", lambda: "http://server")
    with tracked_run("ours", "one", {}, {}):
        pass
    assert capsys.readouterr().out == ""
    del os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"]
