"""What a run computes in does not depend on the processor: one with bf16 of its own gives the same numbers."""

import pandas as pd

from bserkit import devices as hardware


def test_a_processor_with_bf16_gives_the_same_numbers(
    run_cli, read_run, corpus, fast, first_run, lab, tmp_path, monkeypatch
):
    monkeypatch.setattr(hardware, "_processor_has_bf16", lambda: True)
    ended = run_cli("run", corpus / "manifest.csv", *fast, cwd=lab, cache=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("fp32, the same numbers everywhere; --precision bf16 is faster here") == 1
    run = read_run(lab, ended)
    assert dict(run.params)["precision"] == "fp32"
    assert "--precision" not in run.tags["command"]
    mine, first = (pd.read_csv(one.artifacts / "predictions.csv") for one in (run, first_run))
    pd.testing.assert_frame_equal(mine, first, check_exact=True)
