"""The audit on real speech and from the command line."""

import csv

import pytest


@pytest.mark.slow
def test_emovo_audit_finds_silent_sides_and_loud_right(shared, cli):
    done = cli("audit", shared / "corpora" / "emovo")
    assert done.returncode == 0, done.stderr
    assert "14 recordings are without stereo (f1 neutral 13, f1 anger 1)" in done.stdout
    assert (
        "a silent Side gives neutral away for speaker f1 (13 of 14, of other labels 1 of 84, p < .001)" in done.stdout
    )
    (m3,) = [line.split() for line in done.stdout.splitlines() if line.startswith("m3 ") and "±" in line]
    assert "+8.6" in m3


@pytest.mark.slow
def test_urdu_audit_finds_shared_voice_and_confounding(shared, cli, tmp_path):
    out = tmp_path / "pairs.csv"
    done = cli("audit", shared / "corpora" / "urdu", "--out", out, "--quiet")
    assert done.returncode == 0, done.stderr
    assert "2 pairs of recordings under several speakers share a stretch of sound (SF1 and SF4 2)" in done.stdout
    assert "labels come from few of the 29 speakers (angry 4, " in done.stdout
    assert "speaker SM5 alone has 80 of 400 recordings" in done.stdout
    with out.open() as stream:
        assert {"SF1 SF4"} <= {row["speakers"] for row in csv.DictReader(stream)}


def test_what_an_audit_cuts_short_is_written_in_full(cli, corpus, tmp_path):
    page = tmp_path / "audit.md"
    done = cli("audit", corpus / "manifest.csv", "--out", page)
    assert done.returncode == 0, done.stderr
    assert page.read_text().startswith("# What could fool the numbers\n")
    refused = cli("audit", corpus / "manifest.csv", "--out", tmp_path / "nowhere" / "audit.md")
    assert refused.returncode == 2
    assert f"there is no folder {tmp_path / 'nowhere'}" in refused.stderr
    assert "Measuring" not in refused.stderr


def test_an_audit_without_data_is_of_the_demonstration(cli):
    done = cli("audit", "--quiet")
    assert done.returncode == 0, done.stderr
    assert "the speaker explains 94% of the variance of the balance of right and left" in done.stdout
    refused = cli("audit", "--corpus", "emovo")
    assert refused.returncode == 2
    assert "no DATA is named" in refused.stderr
