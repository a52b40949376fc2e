"""``bserkit run`` from the command line to what MLflow keeps of it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, recall_score

ROOT = Path(__file__).parents[2]
CHANNELS = ["left", "right", "mid", "side"]
TRANSFORMS = ["lr", "ms"]
PARTS = [*CHANNELS, *TRANSFORMS, "fusion"]
#: What a run says when it computes features.
EXTRACTING = "Extracting features"
#: Two kinds of recordings that are not stereo, by their files' names.
FLAT = ["flat/ann-calm-equal.wav", "flat/bob-mad-mono.wav"]


@pytest.fixture(scope="module")
def demo(start_cli, finish_cli, tmp_path_factory):
    """The run without data, by the installed command in a process of its own."""
    folder = tmp_path_factory.mktemp("demo")
    return folder, finish_cli(start_cli("run", cwd=folder, cache=folder / "cache"))


@pytest.fixture(scope="module")
def flat(corpus, rows, manifest):
    """A manifest of the corpus and of two recordings that are not stereo."""
    (corpus / "flat").mkdir()
    samples, sample_rate = soundfile.read(corpus / "wav" / "dan-glad-0.wav")
    soundfile.write(corpus / FLAT[0], samples[:, [0, 0]], sample_rate)
    soundfile.write(corpus / FLAT[1], samples[:, 1], sample_rate)
    return manifest("flat.csv", [*rows, (FLAT[0], "calm", "ann"), (FLAT[1], "mad", "bob")])


@pytest.fixture(scope="module")
def flat_run(run_cli, read_run, flat, fast, lab):
    """Run on the corpus with recordings that are not stereo, with options of one's own."""

    def run(*options):
        ended = run_cli("run", flat, *fast, *options, cwd=lab)
        assert ended.returncode == 0, ended.stderr
        return ended, read_run(lab, ended)

    return run


@pytest.fixture(scope="module")
def oracle(run_cli, read_run, corpus, fast, lab, first_run):
    ended = run_cli("run", corpus / "manifest.csv", *fast, "--fusion", "two-stage:tune=oracle", cwd=lab)
    assert ended.returncode == 0, ended.stderr
    return ended, read_run(lab, ended)


@pytest.fixture(scope="module")
def divided(run_cli, read_run, rows, manifest, fast, lab):
    """A run on a split that the manifest gives, with two speakers on either side."""
    path = manifest(
        "divided.csv",
        [(*row, "train" if row[2] in {"ann", "bob"} else "val") for row in rows],
        columns=("path", "label", "speaker", "split"),
    )
    ended = run_cli("run", path, *fast, "--protocol", "predefined:train=train,test=val", cwd=lab)
    assert ended.returncode == 0, ended.stderr
    return ended, read_run(lab, ended)


def predictions(run, part=None):
    table = pd.read_csv(run.artifacts / "predictions.csv", dtype={"speaker": str})
    return table if part is None else table[table["part"] == part]


def measures(table):
    return {
        "accuracy": accuracy_score(table["label"], table["predicted"]),
        "uar": recall_score(table["label"], table["predicted"], labels=sorted(set(table["label"])), average="macro"),
        "macro_f1": f1_score(table["label"], table["predicted"], average="macro"),
    }


def printed_table(text, header):
    """Return the cells of a printed table by its rows' first cell, given a word of its header."""
    _, _, rest = text.partition(header)
    assert rest, f"{header!r} is not printed"
    found = {}
    for line in rest.splitlines():
        if line.startswith("└"):
            return found
        if line.startswith("│"):
            name, *cells = (cell.strip() for cell in line.strip("│").split("│"))
            found[name] = cells
    raise AssertionError("the table has no end")


def test_demo_says_it_is_synthetic_and_untrained(demo):
    _, ended = demo
    assert ended.returncode == 0, ended.stderr
    first_line = ended.stderr.splitlines()[0]
    assert "synthetic corpus" in first_line
    assert "untrained network" in first_line
    assert "alexnet:weights=random" in ended.stderr
    assert "\ndemo: 96 utterances" in ended.stderr


def test_demo_run_is_kept_in_the_local_database(demo, read_run):
    folder, ended = demo
    run = read_run(folder, ended)
    assert run.status == "FINISHED"
    assert run.artifacts.is_relative_to(folder / "mlruns" / "artifacts")
    assert dict(run.params)["backbone.weights"] == "random"
    assert run.name == "demo alexnet:weights=random block-max two-stage"
    assert dict(run.params)["corpus"] == dict(run.params)["data"] == run.datasets[0][0] == "demo"
    assert "data" not in tomllib.loads((run.artifacts / "config.toml").read_text())
    assert f"{EXTRACTING}: 96 utterances" in ended.stderr
    assert len(predictions(run, "fusion")) == run.metrics["utterances"] == 96


def test_demo_predictions_agree_with_other_machines(demo, read_run):
    golden = pd.read_csv(ROOT / "tests" / "golden" / "decisions-demonstration.csv", index_col="utterance")
    predicted = predictions(read_run(*demo)).pivot(index="utterance", columns="part", values="predicted")
    pd.testing.assert_frame_equal(predicted[PARTS], golden[PARTS].sort_index(), check_names=False)
    fusion = predictions(read_run(*demo), "fusion").set_index("utterance")
    scores = [name for name in golden if name.startswith("score_")]
    np.testing.assert_allclose(fusion[scores], golden.loc[fusion.index, scores], atol=1e-4)


def test_readme_shows_what_the_demo_prints(demo):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^\$ \.venv/bin/bserkit run\n(.*?)^\$", readme, flags=re.DOTALL | re.MULTILINE)
    printed = "\n".join(line.rstrip() for line in demo[1].stdout.splitlines())
    assert f"\n{shown}" in printed


def test_a_run_prints_channels_transforms_and_fusion(first, first_run):
    overall = printed_table(first.stdout, "weight (lowest to highest over folds)")
    assert list(overall) == PARTS
    for part in PARTS:
        prefix = "" if part == "fusion" else f"{part}/"
        assert overall[part][:3] == [
            f"{first_run.metrics[prefix + key]:.3f}" for key in ("accuracy", "uar", "macro_f1")
        ]


def test_a_run_prints_every_fold_and_the_confusion(first, first_run):
    by_fold = printed_table(first.stdout, "fusion accuracy")
    assert list(by_fold) == ["ann", "bob", "cat", "dan"]
    for (name, cells), (_, accuracy) in zip(by_fold.items(), first_run.steps["fold/accuracy"], strict=True):
        assert cells[0] == "9", name
        assert cells[8] == f"{accuracy:.3f}", name
    confusion = printed_table(first.stdout, "Confusion of the fusion")
    table = predictions(first_run, "fusion")
    expected = confusion_matrix(table["label"], table["predicted"]).tolist()
    assert [[int(count) for count in cells[:3]] for cells in confusion.values()] == expected


def test_a_run_describes_the_corpus_before_computing(first):
    found, pooling, _ = first.stderr.partition("Pooling: 36 utterances")
    assert pooling
    assert "36 utterances, 0.01 h, 16 kHz, 36 stereo; 4 speakers, 3 emotions" in found
    assert re.search(r"^cat +4 +3 +2 +9$", found, re.MULTILINE)
    assert "Protocol loso: 4 folds" in found


def test_the_same_command_gives_the_same_predictions(cli, lab, corpus, fast, first_run, read_run):
    again = cli("run", corpus / "manifest.csv", *fast, cwd=lab)
    assert again.returncode == 0, again.stderr
    run = read_run(lab, again)
    assert run.id != first_run.id
    assert EXTRACTING not in again.stderr
    for name in ("predictions.csv", "results.csv", "confusion.csv", "fusion_search.csv", "folds.csv"):
        assert (run.artifacts / name).read_bytes() == (first_run.artifacts / name).read_bytes(), name


def test_another_pooler_and_fusion_compute_no_features(cli, lab, corpus, fast, first_run, read_run):
    options = ("--pooler", "global-avg", "--fusion", "feature", "--experiment", "others", "--run-name", "my run")
    ended = cli("run", corpus / "manifest.csv", *fast, *options, cwd=lab)
    assert ended.returncode == 0, ended.stderr
    assert EXTRACTING not in ended.stderr
    assert list(printed_table(ended.stdout, "weight (lowest to highest over folds)")) == PARTS
    run = read_run(lab, ended)
    assert (run.experiment, run.name, run.status) == ("others", "my run", "FINISHED")
    assert (dict(run.params)["pooler"], dict(run.params)["fusion"]) == ("global-avg", "feature")
    first_scores, scores = predictions(first_run, "left")["score_calm"], predictions(run, "left")["score_calm"]
    assert not np.array_equal(first_scores, scores)


def test_row_order_does_not_matter_and_quiet_is_short(cli, lab, fast, rows, manifest, first_run, read_run):
    order = np.random.default_rng(0).permutation(len(rows))
    path = manifest("permuted.csv", [rows[index] for index in order])
    ended = cli("run", path, *fast, "--quiet", cwd=lab)
    assert ended.returncode == 0, ended.stderr
    run = read_run(lab, ended)
    expected = " ".join(f"{name}={run.metrics[name]:.4f}" for name in ("accuracy", "uar", "macro_f1"))
    assert ended.stdout == f"{expected} run={run.id}\n"
    assert ended.stderr == ""
    assert run.tags["corpus.fingerprint"] == first_run.tags["corpus.fingerprint"]
    by_item = [
        table.sort_values(["part", "utterance"], ignore_index=True) for table in map(predictions, (first_run, run))
    ]
    pd.testing.assert_frame_equal(*by_item, check_exact=True)


def test_the_logged_configuration_repeats_the_run(cli, tmp_path, lab, first_run, read_run):
    config = tmp_path / "config.toml"
    config.write_bytes((first_run.artifacts / "config.toml").read_bytes())
    missing = cli("run", "--config", config, cwd=lab)
    assert f"The plugins folder {tmp_path / 'plugins'} does not exist" in missing.stderr
    # What the run kept is enough, without the folder that the plugin came from.
    shutil.copytree(first_run.artifacts / "plugins", tmp_path / "plugins")
    assert [path.name for path in (tmp_path / "plugins").iterdir()] == ["band_means.py"]
    ended = cli("run", "--config", config, cwd=lab)
    assert ended.returncode == 0, ended.stderr
    run = read_run(lab, ended)
    params = [sorted(row for row in one.params if row[0] != "plugins-dir") for one in (run, first_run)]
    assert params[0] == params[1]
    assert run.experiment == first_run.experiment
    for name in ("config.toml", "predictions.csv"):
        assert (run.artifacts / name).read_bytes() == (first_run.artifacts / name).read_bytes(), name


def test_parameters_are_logged_once_in_one_spelling(first_run, corpus):
    params = dict(first_run.params)
    assert len(params) == len(first_run.params)
    assert params.items() >= {
        "data": str(corpus / "manifest.csv"),
        "corpus": "csv",
        "channels": "lr,ms",
        "frontend": "logmel",
        "frontend.segment_frames": "64",
        "frontend.shift_frames": "30",
        "backbone": "band-means",
        "backbone.bands": "64",
        "backbone.weights_digest": "none",
        "pooler": "block-max",
        "pooler.blocks": "2",
        "pooler.pyramid": "false",
        "pooler.magnitude": "true",
        "classifier": "linear-svm",
        "fusion": "two-stage",
        "fusion.tune": "inner",
        "protocol": "loso",
        "device": "cpu",
        "seed": "0",
        "mono": "refuse",
        "microphones": "refuse",
    }.items()  # fmt: skip


def test_logged_parameters_equal_the_logged_config(first_run):
    document = tomllib.loads((first_run.artifacts / "config.toml").read_text())
    assert document.pop("experiment") == "bserkit"
    # The plugins that it used lie beside it, wherever they came from.
    assert document["plugins-dir"] == "plugins"
    document["plugins-dir"] = dict(first_run.params)["plugins-dir"]
    assert document.pop("channels") == [{"name": "lr"}, {"name": "ms"}]
    expected = {"channels": "lr,ms", "backbone.weights_digest": "none"}
    for key, value in document.items():
        table = value if isinstance(value, dict) else {"name": value}
        for parameter, given in table.items():
            text = str(given).lower() if isinstance(given, bool) else str(given)
            expected[key if parameter == "name" else f"{key}.{parameter}"] = text
    assert dict(first_run.params) == expected


def test_origins_of_components_and_libraries_are_kept(first_run, plugins_dir):
    file = plugins_dir / "band_means.py"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert first_run.tags["plugin.backbone.band-means"] == f"band_means {digest[:12]} ({file})"
    assert first_run.tags["plugin.pooler.block-max"].startswith("built-in")
    assert first_run.tags["version.numpy"] == np.__version__
    assert first_run.status == "FINISHED"


def test_the_run_input_is_the_content_of_the_corpus(first_run, corpus, rows):
    lines = (
        f"{hashlib.sha256((corpus / path).read_bytes()).hexdigest()}\t{label}\t{speaker}\t"
        for path, label, speaker in rows
    )
    fingerprint = hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
    assert first_run.tags["corpus.fingerprint"] == fingerprint
    ((name, digest, source),) = first_run.datasets
    assert (name, json.loads(source)) == ("csv", {"uri": str(corpus / "manifest.csv")})
    assert len(digest) >= 32
    assert fingerprint.startswith(digest)


def test_predictions_give_the_metrics_of_every_part(first_run):
    for part in PARTS:
        table = predictions(first_run, part)
        assert len(table) == table["utterance"].nunique() == first_run.metrics["utterances"] == 36
        prefix = "" if part == "fusion" else f"{part}/"
        logged = {name: first_run.metrics[prefix + name] for name in ("accuracy", "uar", "macro_f1")}
        assert logged == pytest.approx(measures(table)), part
    assert first_run.metrics["chance_uar"] == pytest.approx(1 / 3)


def test_predictions_give_metrics_by_class_and_fold(first_run):
    table = predictions(first_run, "fusion")
    recall = recall_score(table["label"], table["predicted"], labels=["calm", "glad", "mad"], average=None)
    assert [first_run.metrics[f"class/{name}/recall"] for name in ("calm", "glad", "mad")] == pytest.approx(recall)
    folds = [measures(table[table["fold"] == name]) for name in ("ann", "bob", "cat", "dan")]
    for name in ("accuracy", "uar", "macro_f1"):
        assert first_run.steps[f"fold/{name}"] == [(step, pytest.approx(one[name])) for step, one in enumerate(folds)]
    for name in ("accuracy", "uar"):
        assert first_run.metrics[f"mean_fold_{name}"] == pytest.approx(np.mean([one[name] for one in folds]))
    for name in (*CHANNELS, *TRANSFORMS):
        assert len(first_run.steps[f"fold/{name}/uar"]) == len(first_run.steps[f"fold/weight/{name}"]) == 4


def test_a_prediction_is_the_class_with_the_top_score(first_run):
    table = predictions(first_run)
    scores = table[["score_calm", "score_glad", "score_mad"]].to_numpy()
    assert np.array_equal(np.array(["calm", "glad", "mad"])[scores.argmax(axis=1)], table["predicted"])


def test_every_utterance_is_tested_with_unseen_speaker(first_run):
    folds = pd.read_csv(first_run.artifacts / "folds_summary.csv").set_index("fold")
    table = predictions(first_run)
    assert sorted(set(table["fold"])) == sorted(folds.index) == ["ann", "bob", "cat", "dan"]
    assert (table["fold"] == table["speaker"]).all()
    for name, row in folds.iterrows():
        assert row["speakers_in_test"] == name
        assert set(row["speakers_in_training"].split(";")) == {"ann", "bob", "cat", "dan"} - {name}
        assert (row["train_utterances"], row["test_utterances"]) == (27, 9)


def test_a_runs_description_is_its_result(first_run):
    told = first_run.tags["mlflow.note.content"]
    low, value, high = (f"{first_run.metrics[f'uar{end}']:.3f}" for end in ("_low", "", "_high"))
    assert f"UAR {value} [{low}, {high}]" in told.splitlines()[0]
    for part in PARTS:
        prefix = "" if part == "fusion" else f"{part}/"
        shown = (f"{first_run.metrics[f'{prefix}{name}']:.3f}" for name in ("accuracy", "uar", "macro_f1"))
        assert f"| {part} | {' | '.join(shown)} |" in told
    assert "There are only 4 speakers" in told
    assert told.endswith(f"```console\n{first_run.tags['command']}\n```")


def test_all_artifacts_exist_and_pictures_are_png(first_run):
    pictures = {"channels.png", "confusion.png", "confusion_parts.png", "fusion_search.png"}
    tables = {"predictions.csv", "confusion.csv", "results.csv", "folds.csv", "fusion_search.csv", "channels.csv"}
    tables |= {"folds_summary.csv"}
    assert {path.name for path in first_run.artifacts.iterdir()} == pictures | tables | {
        "config.toml",
        "audit.md",
        "plugins",
    }
    for name in pictures:
        assert (first_run.artifacts / name).read_bytes().startswith(b"\x89PNG\r\n\x1a\n"), name


def test_the_logged_tables_agree_with_the_predictions(first_run):
    confusion = pd.read_csv(first_run.artifacts / "confusion.csv").set_index("part")
    results = pd.read_csv(first_run.artifacts / "results.csv")
    for part in PARTS:
        table = predictions(first_run, part)
        expected = confusion_matrix(table["label"], table["predicted"], labels=["calm", "glad", "mad"])
        assert np.array_equal(confusion.loc[part, ["predicted_calm", "predicted_glad", "predicted_mad"]], expected), (
            part
        )
        overall = results[(results["part"] == part) & (results["fold"] == "all")].iloc[0]
        assert dict(overall[["accuracy", "uar", "macro_f1"]]) == pytest.approx(measures(table)), part
    assert len(results) == len(PARTS) * 5


def test_the_logged_search_is_complete_and_was_used(first_run):
    search = pd.read_csv(first_run.artifacts / "fusion_search.csv")
    inputs = {"lr": ("left", "right"), "ms": ("mid", "side"), "fusion": ("lr", "ms")}
    folds = ["ann", "bob", "cat", "dan"]
    assert len(search) == len(folds) * len(inputs) * 11
    for (fold, stage), trials in search.groupby(["fold", "stage"]):
        one, other = (f"weight_{name}" for name in inputs[stage])
        assert sorted(trials[one]) == pytest.approx([step / 10 for step in range(11)])
        assert (trials[one] + trials[other]).tolist() == pytest.approx([1.0] * 11)
        (chosen,) = trials[trials["chosen"] == 1].index
        assert trials.loc[chosen, "score"] == trials["score"].max()
        for name in inputs[stage]:
            logged = dict(first_run.steps[f"fold/weight/{name}"])[folds.index(fold)]
            assert trials.loc[chosen, f"weight_{name}"] == pytest.approx(logged)


def test_the_oracle_is_logged_apart_from_the_result(oracle, first_run):
    _, run = oracle
    assert run.artifacts.joinpath("predictions.csv").read_bytes() == (
        first_run.artifacts.joinpath("predictions.csv").read_bytes()
    )
    extra = run.metrics.keys() - first_run.metrics.keys()
    assert all(name.startswith("oracle_") for name in extra), extra
    assert {name: run.metrics[name] for name in first_run.metrics} == first_run.metrics
    assert {name: run.steps[name] for name in first_run.steps} == first_run.steps
    assert {"oracle_accuracy", "oracle_uar", "oracle_macro_f1", "oracle_weight/lr", "oracle_weight/left"} <= extra
    assert not any("oracle" in name for name in first_run.metrics)


def test_the_oracle_is_the_best_weighting_on_test_data(oracle):
    ended, run = oracle
    search = pd.read_csv(run.artifacts / "fusion_search.csv")
    last = search[(search["fold"] == "oracle") & (search["stage"] == "fusion")]
    assert run.metrics["oracle_accuracy"] == pytest.approx(last["score"].max())
    optimism = run.metrics["oracle_accuracy"] - run.metrics["accuracy"]
    assert run.metrics["oracle_optimism_accuracy"] == pytest.approx(optimism)
    _, _, printed = " ".join(ended.stdout.split()).partition(" Oracle (")
    assert "not a result" in printed
    assert f"accuracy {run.metrics['oracle_accuracy']:.3f}, UAR {run.metrics['oracle_uar']:.3f}" in printed


def test_a_predefined_split_tests_only_the_other_part(divided):
    _, run = divided
    assert dict(run.params).items() >= {"protocol": "predefined", "protocol.train": "train"}.items()
    table = predictions(run, "fusion")
    assert set(table["speaker"]) == {"cat", "dan"}
    assert set(table["fold"]) == {"val"}
    assert len(table) == 18
    assert run.metrics["accuracy"] == pytest.approx(measures(table)["accuracy"])
    assert run.steps["fold/accuracy"] == [(0, run.metrics["accuracy"])]


def test_two_training_speakers_get_equal_weights(divided):
    ended, run = divided
    assert {run.steps[f"fold/weight/{name}"][0][1] for name in (*CHANNELS, *TRANSFORMS)} == {0.5}
    for text in (" ".join(ended.stdout.split()), run.tags["fusion.notes"]):
        assert "fusion weights were not searched but set equal: only 2 training speakers" in text
    assert not (run.artifacts / "fusion_search.csv").exists()


def test_a_search_that_took_place_leaves_no_note(first, first_run):
    assert "Note:" not in first.stdout + first.stderr
    assert not {"notes", "fusion.notes"} & first_run.tags.keys()


def test_non_stereo_recordings_are_refused_by_name(cli, flat, fast, tmp_path):
    ended = cli("run", flat, *fast)
    assert ended.returncode == 2
    assert [line.strip() for line in ended.stderr.splitlines() if line.strip().endswith(".wav")] == FLAT
    assert "2 of 38 recordings are not stereo (1 mono, 1 with left equal to right)" in ended.stderr
    for way_out in ("--mono duplicate", "--mono skip", "--channels mono"):
        assert way_out in ended.stderr
    assert ended.stdout == ""
    assert not list(tmp_path.iterdir())


def test_mono_skip_leaves_them_out_and_says_so(flat_run, first_run):
    ended, run = flat_run("--mono", "skip")
    assert (run.artifacts / "predictions.csv").read_bytes() == (first_run.artifacts / "predictions.csv").read_bytes()
    assert pd.read_csv(run.artifacts / "skipped.csv")["utterance"].tolist() == FLAT
    assert (run.metrics["utterances"], run.metrics["skipped"]) == (36, 2)
    assert "2 left out" in ended.stderr
    assert all(name in ended.stderr for name in FLAT)
    assert "2 recordings without stereo were left out: ann calm 1, bob mad 1" in run.tags["notes"]


def test_mono_duplicate_warns_of_a_silent_side(flat_run):
    ended, run = flat_run("--mono", "duplicate")
    assert set(predictions(run, "fusion")["utterance"]) >= set(FLAT)
    assert (run.metrics["utterances"], run.metrics["skipped"]) == (38, 0)
    for text in (" ".join(ended.stderr.split()), run.tags["notes"]):
        assert "2 recordings without stereo were kept with a silent Side" in text


def test_the_mono_mix_takes_recordings_of_any_kind(flat_run):
    ended, run = flat_run("--channels", "mono")
    table = predictions(run)
    assert list(dict.fromkeys(table["part"])) == ["mono", "fusion"]
    assert set(table["utterance"]) >= set(FLAT)
    assert np.array_equal(*(table[table["part"] == part]["score_calm"] for part in ("mono", "fusion")))
    assert run.metrics["utterances"] == 38
    assert dict(run.params)["channels"] == "mono"
    assert "Note: " not in ended.stderr
    assert list(printed_table(ended.stdout, "weight (lowest to highest over folds)")) == ["mono", "fusion"]


def test_a_label_of_any_characters_can_be_evaluated(cli, lab, fast, rows, manifest, read_run, first_run):
    path = manifest("odd.csv", [(name, label.replace("mad", "mad [loud]"), who) for name, label, who in rows])
    ended = cli("run", path, *fast, cwd=lab)
    assert ended.returncode == 0, ended.stderr
    run = read_run(lab, ended)
    assert set(predictions(run, "fusion")["label"]) == {"calm", "glad", "mad [loud]"}
    assert set(printed_table(ended.stdout, "Confusion of the fusion")) == {"calm", "glad", "mad [loud]"}
    assert run.metrics["accuracy"] == pytest.approx(first_run.metrics["accuracy"])


def test_overlapping_folds_need_permission_and_a_tag(cli, corpus, rows, fast, tmp_path, read_run):
    folds = tmp_path / "folds.csv"
    lines = ["utterance,fold,part"]
    for index, (name, _, speaker) in enumerate(rows):
        lines += [f"{name},mixed,{'test' if speaker == 'ann' or index == len(rows) - 1 else 'train'}"]
    folds.write_text("\n".join(lines) + "\n")
    asked = ("run", corpus / "manifest.csv", *fast, "--protocol", f"folds:path={folds}", "--fusion", "mean")
    refused = cli(*asked)
    assert refused.returncode == 2
    assert "in training and in test: dan" in refused.stderr
    assert "--allow-speaker-overlap" in refused.stderr
    allowed = cli(*asked, "--allow-speaker-overlap")
    assert allowed.returncode == 0, allowed.stderr
    for said in (allowed.stdout, allowed.stderr):
        assert "WARNING: speakers are both in training and in test (mixed: dan)" in said
    run = read_run(tmp_path, allowed)
    assert run.tags["speaker_overlap"] == "mixed: dan"
    params = dict(run.params)
    assert params["allow-speaker-overlap"] == "true"
    assert params["protocol.digest"] == hashlib.sha256(folds.read_bytes()).hexdigest()
    written = tomllib.loads((run.artifacts / "config.toml").read_text())
    assert written["allow-speaker-overlap"] is True
    assert written["protocol"] == {"name": "folds", "path": str(folds)}
    assert run.metrics["utterances"] == 36
    tested = {line.split(",")[0] for line in (run.artifacts / "predictions.csv").read_text().splitlines()[1:]}
    assert tested == {name for name, _, speaker in rows if speaker == "ann"} | {rows[-1][0]}


def test_a_runs_own_folds_give_the_run_again(cli, lab, corpus, fast, first_run, read_run):
    protocol = f"folds:path={first_run.artifacts / 'folds.csv'}"
    ended = cli("run", corpus / "manifest.csv", *fast, "--protocol", protocol, cwd=lab)
    assert ended.returncode == 0, ended.stderr
    again = read_run(lab, ended)
    for name in ("predictions.csv", "folds.csv", "folds_summary.csv"):
        assert (again.artifacts / name).read_bytes() == (first_run.artifacts / name).read_bytes(), name


@pytest.fixture(scope="module")
def nameless(run_cli, rows, manifest, fast, lab):
    """Runs on the corpus without its speakers, in random folds, with two fusions."""
    path = manifest("nameless.csv", [(path, label, "") for path, label, _ in rows])
    stratified = ("run", path, *fast, "--protocol", "stratified:folds=3", "--fusion")
    return [run_cli(*stratified, fusion, cwd=lab) for fusion in ("two-stage:inner_by=random", "feature")]


def test_stratified_folds_say_everywhere_what_they_are(nameless, read_run, lab):
    ended = nameless[0]
    assert ended.returncode == 0, ended.stderr
    run = read_run(lab, ended)
    warning = "WARNING: the same speaker may be in training and in test: 36 of 36 utterances name no speaker"
    assert "3 folds, SPEAKERS MAY BE ON BOTH SIDES" in ended.stderr
    for text in (ended.stderr, ended.stdout):
        assert warning in " ".join(text.split())
    assert run.tags["speakers_unknown"] == "36 of 36 utterances name no speaker"
    assert run.tags["fusion.notes"].startswith("inner folds at random: the same speaker may be on both sides")
    assert len(pd.read_csv(run.artifacts / "fusion_search.csv")) == 3 * 3 * 11
    assert not {"uar_low", "uar_high"} & run.metrics.keys()
    assert "95% intervals" not in ended.stdout


def test_runs_without_speakers_compare_and_report(nameless, cli, read_run, lab, tmp_path):
    ids = [read_run(lab, ended).id for ended in nameless]
    compared = cli("compare", *ids, cwd=lab)
    assert compared.returncode == 0, compared.stderr
    assert "the same speaker may be in training and in test" in " ".join(compared.stdout.split())
    written = cli("report", ids[0], "--out", tmp_path / "report.html", cwd=lab)
    assert written.returncode == 0, written.stderr
    assert "WARNING: the same speaker may be in training and in test" in (tmp_path / "report.html").read_text()


def test_speakers_that_are_emotions_stop_a_run_early(cli, rows, manifest, fast):
    path = manifest("emotions.csv", [(path, label, label) for path, label, _ in rows])
    ended = cli("run", path, *fast)
    assert ended.returncode == 2
    assert "it looks as if the speaker names the emotion" in ended.stderr
    assert EXTRACTING not in ended.stderr


def test_classes_that_a_fold_does_not_learn_are_told(cli, lab, rows, manifest, fast, read_run):
    path = manifest("rare.csv", [(path, "rare" if who == "dan" and label == "mad" else label, who)
                                 for path, label, who in rows])  # fmt: skip
    ended = cli("run", path, *fast, cwd=lab)
    assert ended.returncode == 0, ended.stderr
    for text in (ended.stderr, ended.stdout):
        assert "WARNING: folds test classes that they do not learn (dan: rare)" in " ".join(text.split())
    assert read_run(lab, ended).tags["absent_classes"] == "dan: rare"


def test_runs_with_unseen_speakers_have_no_overlap_tag(first_run, first):
    assert "speaker_overlap" not in first_run.tags
    assert dict(first_run.params)["allow-speaker-overlap"] == "false"
    assert "WARNING" not in first.stdout


def test_a_run_logs_its_audit_and_prints_one_line(first, first_run):
    (line,) = [line for line in first.stderr.splitlines() if line.startswith("Audit: ")]
    page = (first_run.artifacts / "audit.md").read_text()
    assert page.startswith("# What could fool the numbers\n")
    most_serious = page.splitlines()[2].removeprefix("- ")
    assert line.startswith(f"Audit: {most_serious}")
    counts = {name: value for name, value in first_run.metrics.items() if name.startswith("audit/")}
    assert counts["audit/findings"] == page.count("\n- ")
    assert counts["audit/without_stereo"] == counts["audit/left_out"] == 0
