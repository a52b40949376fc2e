"""The paper's tables from outcomes made by hand: every cell is computed on paper."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bserkit.evaluation.results import read_results
from bserkit.reporting.paper_tables import Outcome, confusions, page
from bserkit.rows import plain
from bserkit.text import csv_text
from bserkit.tracking.finished import KeptRun

TRANSFORMS = {"left": "lr", "right": "lr", "mid": "ms", "side": "ms"}
PARTS = (*TRANSFORMS, "lr", "ms", "fusion")
SPEAKERS = ("ann", "bob", "cat", "dan", "eve", "fay")
ITEMS = [(speaker, take, label) for speaker in SPEAKERS for take, label in enumerate(("calm", "calm", "calm", "mad"))]
#: An accuracy of .50 for left, .51 for right and so on, and a UAR of .1 less; of block-max. Global-max has .2 more.
ACCURACY = {part: 0.50 + 0.01 * index for index, part in enumerate(PARTS)}


def outcome(pooler, fusion, wrong=(), more=0.0, oracle=0.0, weights=None, transforms=TRANSFORMS, **kept):
    parts = (*transforms, *dict.fromkeys(transforms.values()), "fusion")
    metrics = {}
    for part in parts:
        prefix = "" if part == "fusion" else f"{part}/"
        metrics |= {
            f"{prefix}accuracy": ACCURACY.get(part, 0.4) + more,
            f"{prefix}uar": ACCURACY.get(part, 0.4) + more - 0.1,
        }
        if oracle and part not in transforms:
            metrics |= {f"oracle_{prefix}{name}": metrics[f"{prefix}{name}"] + oracle for name in ("accuracy", "uar")}
    if oracle:
        metrics |= {"oracle_weight/left": 0.4, "oracle_weight/right": 0.6, "oracle_weight/mid": 0.7}
        metrics |= {"oracle_weight/side": 0.3, "oracle_weight/lr": 0.6, "oracle_weight/ms": 0.4}
    metrics |= {"uar_low": 0.25, "uar_high": 0.75, "accuracy_low": 0.125, "accuracy_high": 0.875, "macro_f1": 0.3}
    rows = [
        {
            "item": f"{speaker}-{take}", "speaker": speaker, "fold": speaker, "part": part, "label": label,
            "decided": {"calm": "mad", "mad": "calm"}[label] if f"{speaker}-{take}" in wrong else label,
            "score_calm": 0, "score_mad": 0,
        }
        for part in parts for speaker, take, label in ITEMS
    ]  # fmt: skip
    stages = {"channels": "lr,ms", "frontend": "logmel", "backbone": "alexnet", "finetune": "frozen"}
    stages |= {"pooler": pooler, "normaliser": "none", "classifier": "linear-svm", "fusion": fusion} | kept.pop(
        "stages", {}
    )
    name = f"{pooler} {fusion}"
    run = KeptRun(f"{name} {more}".encode().hex()[:32], name, "bserkit", {"pooler": pooler}, {}, metrics)
    folds = [
        {"fold": name, "train_items": 20, "test_items": 4, "train_speakers": "all but " + name, "test_speakers": name}
        for name in SPEAKERS
    ]
    parts = [
        {"part": part, "fold": fold, "items": 4, "accuracy": 1, "uar": 1, "macro_f1": 1, "weight": weight}
        for part, of_folds in (weights or {}).items()
        for fold, weight in enumerate(of_folds)
    ]
    files = {"predictions.csv": rows, "folds.csv": folds} | ({"results.csv": parts} if parts else {})
    results = read_results({name: csv_text(one).encode() for name, one in files.items()}, name)
    return Outcome(name, stages, transforms, run, results, f"bserkit run {name}", **kept)


WEIGHTS = {
    "left": [0.2, 0.7], "right": [0.8, 0.3], "mid": [0.5, 0.5], "side": [0.5, 0.5], "lr": [1.0, 0.5], "ms": [0.0, 0.5],
}  # fmt: skip
FIRST = outcome("block-max", "two-stage", oracle=0.05, weights=WEIGHTS, wrong=[f"{name}-0" for name in SPEAKERS])
GRID = [
    FIRST,
    outcome("block-max", "feature", more=0.1),
    outcome("global-max", "two-stage", more=0.2, oracle=0.01, weights=WEIGHTS),
    outcome("global-max", "feature", more=0.3),
]


def tables(outcomes, chosen=FIRST):
    return {table.title: table for _, some in page(outcomes, chosen).sections for table in some}


def one_table(outcomes, begin, chosen=FIRST):
    (found,) = (table for title, table in tables(outcomes, chosen).items() if title.startswith(begin))
    return found


def test_table_1_lists_channels_with_the_first_pooler():
    table = one_table(GRID, "Table 1.")
    assert "block-max" in table.title
    assert table.rows == [
        ["left", "50.00", "40.00"],
        ["right", "51.00", "41.00"],
        ["mid", "52.00", "42.00"],
        ["side", "53.00", "43.00"],
    ]


@pytest.mark.parametrize(
    ("number", "channel", "accuracy"), [(2, "left", 50), (3, "right", 51), (4, "mid", 52), (5, "side", 53)]
)
def test_tables_2_to_5_have_each_pooler_of_a_channel(number, channel, accuracy):
    table = one_table(GRID, f"Table {number}. Poolers, {channel}")
    assert table.rows == [
        ["block-max", f"{accuracy}.00", f"{accuracy - 10}.00"],
        ["global-max", f"{accuracy + 20}.00", f"{accuracy + 10}.00"],
    ]


def test_other_channels_have_their_own_tables():
    mono = {"transforms": {"mono": "mono"}, "stages": {"channels": "mono"}}
    outcomes = [*GRID, outcome("block-max", "two-stage", **mono), outcome("global-max", "two-stage", more=0.1, **mono)]
    assert one_table(outcomes, "Table 1.").rows[-1] == ["mono", "40.00", "30.00"]
    assert one_table(outcomes, "Poolers, mono").rows == [
        ["block-max", "40.00", "30.00"],
        ["global-max", "50.00", "40.00"],
    ]
    # Nothing is fused where there is one channel.
    assert all(row[0] == "lr,ms" or "mono" not in row for row in one_table(outcomes, "Table 6.").rows)
    assert len(one_table(outcomes, "Table 6.").rows) == 6


def test_one_pooler_gives_no_tables_of_poolers():
    assert not [title for title in tables(GRID[:2]) if "Poolers" in title]


def test_table_6_has_stages_with_weights_and_oracle():
    table = one_table(GRID, "Table 6.")
    assert table.header == [
        "pooler", "fused", "weight", "accuracy", "UAR", "oracle weight", "oracle accuracy", "oracle UAR",
    ]  # fmt: skip
    assert table.rows[:3] == [
        ["block-max", *cells, f"{oracle}.00 (+5.00)", f"{oracle - 10}.00 (+5.00)"]
        for *cells, oracle in (
            ("left, right", "α = 0.45 (0.2 to 0.7)", "54.00", "44.00", "α = 0.4", 59),
            ("mid, side", "β = 0.50 (0.5 to 0.5)", "55.00", "45.00", "β = 0.7", 60),
            ("left, right, mid, side", "λ = 0.75 (0.5 to 1.0)", "56.00", "46.00", "λ = 0.6", 61),
        )
    ]
    assert [row[0] for row in table.rows[3:]] == ["global-max"] * 3
    assert "no result" in table.title


def test_no_optimism_is_no_minus():
    one = outcome("block-max", "two-stage", oracle=-1e-12, weights=WEIGHTS)
    assert one_table([one], "Table 6.", chosen=one).rows[0][-1] == "44.00 (+0.00)"


def test_table_6_omits_an_oracle_not_asked_for():
    table = one_table([outcome("block-max", "two-stage", weights=WEIGHTS)], "Table 6.")
    assert not [name for name in table.header if "oracle" in name]
    assert "oracle" not in table.title


def test_several_score_fusions_are_told_apart():
    table = one_table([FIRST, outcome("block-max", "mean", more=0.1)], "Table 6.")
    assert table.header[:3] == ["pooler", "fusion", "fused"]
    assert [row[1] for row in table.rows] == ["two-stage"] * 3 + ["mean"] * 3
    # Without an oracle of its own a fusion has no such cells.
    assert table.rows[-1][6:] == [""] * 3


def test_one_transform_is_one_stage_with_its_weight():
    one = outcome(
        "block-max", "two-stage", transforms={"left": "lr", "right": "lr"}, weights={"left": [0.3], "right": [0.7]}
    )
    assert one_table([one], "Table 6.", chosen=one).rows == [["block-max", "left, right", "α = 0.3", "56.00", "46.00"]]


def test_a_stage_of_three_names_every_weight():
    transforms = {"front": "three", "left": "three", "right": "three"}
    one = outcome("block-max", "two-stage", transforms=transforms, weights={name: [0.25] for name in transforms})
    (row,) = one_table([one], "Table 6.", chosen=one).rows
    assert row[2] == "front 0.2, left 0.2, right 0.2"


def test_table_7_has_feature_level_fusion_alone():
    assert one_table(GRID, "Table 7.").rows == [
        ["block-max", "left, right", "64.00", "54.00"],
        ["block-max", "mid, side", "65.00", "55.00"],
        ["block-max", "left, right, mid, side", "66.00", "56.00"],
        ["global-max", "left, right", "84.00", "74.00"],
        ["global-max", "mid, side", "85.00", "75.00"],
        ["global-max", "left, right, mid, side", "86.00", "76.00"],
    ]


def test_table_8_compares_ours_with_each_reference():
    # Ours errs once with every speaker, on one of three calm items; one reference errs once with ann, on the mad one.
    references = [
        outcome("global-avg", "mean", wrong=["ann-3"], reference=True),
        outcome("global-avg", "mean", wrong=FIRST.results.fusion.utterances.tolist(), more=0.1, reference=True),
    ]
    table = one_table([*GRID, *references], "Table 8.")
    assert "for 2 comparisons" in table.title
    one, other, ours = table.rows
    assert ours[0] == "ours: block-max two-stage"
    assert ours[1].startswith(f"{100 * 18 / 24:.2f} [")
    assert ours[2].startswith(f"{100 * (2 / 3 + 1) / 2:.2f} [")
    assert ours[3:] == ["", "", "", ""]
    assert one[1].startswith(f"{100 * 23 / 24:.2f} [")
    assert one[3].startswith(f"{100 * ((1 + 5 / 6) / 2 - (2 / 3 + 1) / 2):+.2f} [")
    # Six items only the reference got right, one only ours; the smaller of two p is doubled by Holm.
    p = 2 * (1 + 7) / 2**7
    assert one[4] == f"{p:.2g} ({p:.2g})"
    assert other[1] == "0.00 [0.00, 0.00]"
    assert other[4] == f"{2 / 2**18:.2g} ({4 / 2**18:.2g})"


def test_without_references_there_is_no_table_8():
    assert not [title for title in tables(GRID) if title.startswith("Table 8")]


def test_a_failed_first_combination_has_no_table_8():
    written = page([*GRID[1:], outcome("global-avg", "mean", reference=True)], None)
    assert not [table for _, some in written.sections for table in some if table.title.startswith("Table 8")]
    assert "The combination named first has no result" in written.remarks[0]


def test_every_combination_has_interval_oracle_and_run():
    table = one_table(GRID, "Every combination")
    assert table.rows[0] == [
        "block-max two-stage", FIRST.run.run_id[:8], "56.00 [12.50, 87.50]", "46.00 [25.00, 75.00]", "51.00", "+5.00",
    ]  # fmt: skip
    assert table.rows[1][-2:] == ["", ""]


def test_figures_show_channels_and_fusion_of_the_first():
    assert list(confusions(FIRST)) == [*TRANSFORMS, "fusion"]
    table = one_table(GRID, "Figures 5 and 6.")
    assert table.header == ["true", "calm", "mad"]
    assert [list(map(str, row)) for row in table.rows] == [["calm", "66.7", "33.3"], ["mad", "0.0", "100.0"]]
    assert len([title for title in tables(GRID) if title.startswith("Figure 4.")]) == 4


def test_each_backbone_has_its_own_headed_block():
    others = [outcome(one, "two-stage", stages={"backbone": "torchvision"}) for one in ("block-max", "global-max")]
    sections = page([*GRID, *others], FIRST).sections
    assert [heading for heading, _ in sections] == ["backbone alexnet", "backbone torchvision", "All combinations"]
    assert [table.title[:8] for table in sections[1][1]][:5] == [f"Table {number}." for number in (1, 2, 3, 4, 5)]


def test_one_block_needs_no_heading():
    assert [heading for heading, _ in page(GRID, FIRST).sections] == ["", ""]


def test_the_page_says_if_test_data_picked_the_best():
    said = "\n".join(page(GRID, FIRST).remarks)
    assert "Chance: UAR 50.00 %; always 'calm': accuracy 75.00 %." in said
    assert "Whoever picks the best of these 4 combinations picks on the test data" in said
    assert "only 6 speakers" in said
    noted = replace(FIRST, run=replace(FIRST.run, tags={"fusion.notes": "weights were set equal"}))
    assert page([noted], noted).remarks.count("Note: weights were set equal.") == 1
    alone = "\n".join(page(GRID[:1], FIRST).remarks)
    assert "picks" not in alone


def test_the_page_is_markdown_with_each_runs_command():
    text = page(GRID, FIRST).markdown("Sweep", ["bserkit run a", "bserkit run b"])
    table = "| channel | accuracy | UAR |\n| --- | ---: | ---: |\n| left | 50.00 | 40.00 |"
    assert text.startswith(f"# Sweep\n\nTable 1. Single channels, block-max (%)\n\n{table}\n")
    assert text.endswith("```console\nbserkit run a\nbserkit run b\n```\n")


def test_result_rows_hold_stages_numbers_and_command():
    row = plain(FIRST.row())
    assert (row["pooler"], row["fusion"], row["kind"]) == ("block-max", "two-stage", "combination")
    assert (row["uar"], row["oracle_uar"], row["left/uar"]) == pytest.approx((0.46, 0.51, 0.4))
    assert row["run"] == FIRST.run.run_id
    assert row["command"] == "bserkit run block-max two-stage"
