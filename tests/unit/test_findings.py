"""Findings say what could fool the numbers, the most serious first, and nothing that chance makes."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import fisher_exact

from bserkit import Utterance
from bserkit.corpora.audio import AudioFacts
from bserkit.corpora.audit.audit import Audit, Measured, markdown, remark_rows, summary
from bserkit.corpora.audit.findings import Severity, _Table, chance, chance_text, epsilon_squared, epsilon_squared_p
from bserkit.corpora.audit.near_duplicates import NearDuplicate
from bserkit.corpora.reading import Corpus
from bserkit.plugins.builtin.corpora import Manifest

STEREO = AudioFacts(2, 16000, 1.0, False, 0.0, "", (-0.5, -0.5), (0.5, 0.5))
EQUAL = replace(STEREO, equal=True)
MONO = AudioFacts(1, 16000, 1.0, False, 0.0, "", (-0.5,), (0.5,))
RIGHT_DEAD = replace(STEREO, lowest=(-0.5, 0.0), highest=(0.5, 0.0))


def audit(rows, near=(), exact=(), unusable=(), needs_stereo=True):
    """Return an audit of (speaker, label, facts) whose levels tell nothing; ``near`` and ``exact`` name rows."""
    levels = np.random.default_rng(0).normal(-20, 3, size=len(rows))
    measured = tuple(
        Measured(f"{index}.wav", label, speaker, facts, level, -3.0, level / 9, 0.1, str(index))
        for index, ((speaker, label, facts), level) in enumerate(zip(rows, levels, strict=True))
    )
    utterances = tuple(Utterance(Path(f"/{one.item}"), one.label, one.speaker) for one in measured)
    groups = tuple(tuple(measured[index] for index in group) for group in exact)
    pairs = tuple(NearDuplicate(first, second, 1.0) for first, second in near)
    return Audit(Corpus(Path("/"), Manifest(), utterances, ()), measured, unusable, groups, pairs, needs_stereo)


def balanced(speakers=6, labels=("calm", "glad", "mad"), takes=4, facts=STEREO):
    return [(f"s{speaker}", label, facts) for speaker in range(speakers) for label in labels for _ in range(takes)]


def texts(*given, **options):
    return [one.text for one in audit(*given, **options).findings]


def given_away(rows, **options):
    return [one.text for one in audit(rows, **options).findings if one.severity == Severity.GIVEN_AWAY]


def dealt(flat):
    """Return two labels of one speaker's, of which so many each are without stereo."""
    rows = [("s0", label, MONO) for label, (count, _) in flat.items() for _ in range(count)]
    return rows + [("s0", label, STEREO) for label, (count, of) in flat.items() for _ in range(of - count)]


def test_a_balanced_corpus_has_no_findings():
    assert texts(balanced()) == []


def test_a_label_without_stereo_is_given_away():
    rows = [(who, label, EQUAL if (who, label) == ("s1", "mad") else facts) for who, label, facts in balanced(takes=8)]
    assert given_away(rows) == [
        "a silent Side gives mad away for speaker s1 (8 of 8, of other labels 0 of 16, p < .001)"
    ]


def test_labels_alike_without_stereo_give_nothing_away():
    # Each label is compared with the others: about half of both is no sign of either.
    assert given_away(dealt({"calm": (18, 31), "mad": (17, 32)}) + balanced()) == []


def test_what_chance_may_do_gives_nothing_away():
    assert given_away(dealt({"calm": (3, 3), "mad": (0, 2)}) + balanced()) == []


@given(st.integers(0, 2**16))
def test_stereo_dealt_by_chance_seldom_gives_away(seed):
    generator = np.random.default_rng(seed)
    rows = [(who, label, MONO if generator.random() < 0.4 else STEREO) for who, label, _ in balanced()]
    assert len(given_away(rows)) <= 1


def test_few_of_each_speaker_give_away_together():
    rows = [(who, label, MONO if label == "mad" else STEREO) for who, label, _ in balanced(takes=2)]
    (said,) = given_away(rows)
    assert said == "a silent Side gives mad away over 6 speakers (12 of 12, of other labels 0 of 24, p < .001)"


def test_the_only_label_in_stereo_is_given_away():
    rows = [("x", label, STEREO if label == "f" else MONO) for label in "abcdefgh" for _ in range(9)]
    (said,) = given_away(rows + balanced())
    assert said.startswith("a Side that is not silent gives f away for speaker x (9 of 9, of other labels 0 of 63")


def test_no_stereo_findings_where_none_is_needed():
    rows = [(who, label, MONO if label == "mad" else STEREO) for who, label, _ in balanced()]
    assert texts(rows, needs_stereo=False) == []
    assert texts(balanced(facts=MONO), needs_stereo=False) == []
    assert texts(balanced(facts=MONO)) == ["all 72 recordings are without stereo: learn from them with --channels mono"]


@given(st.integers(1, 20), st.integers(1, 20), st.data())
def test_chance_is_fishers_exact_test(drawn, others, data):
    hits, rest = data.draw(st.integers(0, drawn)), data.draw(st.integers(0, others))
    wanted = fisher_exact([[hits, drawn - hits], [rest, others - rest]], "greater").pvalue
    assert chance([_Table(hits, drawn, hits + rest, drawn + others)]) == pytest.approx(wanted, abs=1e-9)


def test_chance_over_speakers_adds_their_tables_up():
    # Two speakers, a recording of the label and one other each, one of two without stereo: 1/2 each, 1/4 both.
    assert chance([_Table(1, 1, 1, 2)] * 2) == pytest.approx(0.25)
    assert chance([_Table(1, 1, 1, 2), _Table(0, 1, 1, 2)]) == pytest.approx(0.75)


def test_a_speaker_who_lacks_a_label_is_found():
    rows = [row for row in balanced() if row[:2] != ("s2", "glad")]
    assert texts(rows) == [
        "1 of 6 speakers lacks a label altogether (s2: glad): tested on them, fewer classes are told apart"
    ]


def test_a_label_of_few_speakers_is_found():
    rows = balanced() + [("s0", "sad", STEREO)] * 4
    assert "a label comes from few of the 6 speakers (sad 1): the two are confounded" in texts(rows)


def test_unknown_speakers_are_told_once():
    (said,) = texts([("", label, facts) for _, label, facts in balanced()])
    assert said.startswith("speakers are unknown: whether ")
    (said,) = texts(balanced() + [("", "calm", STEREO)] * 2)
    assert said.startswith("the speakers of 2 of 74 are unknown: whether ")


def test_the_only_speaker_is_no_confound_of_each_label():
    (said,) = texts(balanced(speakers=1))
    assert said.startswith("all recordings are of one speaker (s0)")


def test_names_that_are_spelt_twice_are_found():
    rows = [(who.upper() if who == "s1" and take % 2 else who, label, facts)
            for take, (who, label, facts) in enumerate(balanced())]  # fmt: skip
    rows += [(who, " Mad", facts) for who, label, facts in balanced(labels=("mad",))]
    first, second = texts(rows)[:2]
    assert first == "1 speaker is spelt in several ways ('S1' and 's1'): folds take them for one person"
    assert second.startswith("1 label is spelt in several ways (' Mad' and 'mad'): ")


def test_pairs_of_many_speakers_are_one_line():
    rows = balanced()
    near = [(first, second) for first in range(0, 72, 12) for second in range(first + 12, 72, 12)]
    (said,) = texts(rows, near=near)
    assert said.startswith(
        "15 pairs of recordings under several speakers share a stretch of sound across 15 sets of speakers (s0 and s1 1"
    )
    assert said.endswith("and another 10)")
    assert audit(rows, near=near).findings[0].cut


def test_sound_of_unknown_speakers_is_no_speakers_own():
    rows = [("", label, facts) for _, label, facts in balanced()]
    assert "1 pair of recordings of unknown speakers with common sound: folds may part them" in texts(
        rows, near=[(0, 1)]
    )


def test_a_silent_channel_is_told_by_speaker_and_label():
    rows = [(who, label, RIGHT_DEAD if who == "s2" or (who, label) == ("s3", "mad") else facts)
            for who, label, facts in balanced()]  # fmt: skip
    (said,) = [one for one in texts(rows) if "channel" in one]
    assert said.startswith("the right channel is silent in 16 recordings (s2 12, s3 mad 4): ")


def test_a_silent_channel_explains_no_delay_or_balance():
    found = audit([(who, label, RIGHT_DEAD if who == "s2" else facts) for who, label, facts in balanced()])
    measured = tuple(
        replace(one, right_to_left_db=-70.0, delay_ms=-2.0) if one.facts.silent else one for one in found.measured
    )
    (said,) = replace(found, measured=measured).findings
    assert "is silent" in said.text


def test_the_most_serious_finding_comes_first():
    rows = [(who, label, EQUAL if (who, label) == ("s1", "mad") else facts) for who, label, facts in balanced(takes=8)]
    rows += [("s0", "sad", STEREO)] * 4
    found = audit(rows, near=[(0, 1), (0, 30)], unusable=(("x.wav", "it is silent throughout"),))
    severities = [one.severity for one in found.findings]
    assert severities == sorted(severities, reverse=True)
    assert set(severities) == set(Severity)
    assert summary(found).startswith(
        "Audit: 1 pair of recordings under several speakers share a stretch of sound (s0 and s1 1). 7 more findings in"
    )


def test_the_page_lists_all_that_findings_cut_short():
    rows = balanced(takes=8, facts=EQUAL)[:60] + balanced(takes=8)[60:]
    found = audit(rows, unusable=(("x.wav", "it is silent throughout"),))
    assert len(remark_rows(found)) == 61
    assert Counter(markdown(found).splitlines())["| 59.wav | s2 | glad | left equals right |"] == 1
    assert "| x.wav |  |  | it is silent throughout |" in markdown(found)


def test_explained_share_is_epsilon_squared_by_hand():
    # Means 1 and 5; within (0 + 4 + 4 + 0 ...): values 0, 2 and 4, 6; total variance 20 / 3, within 4 / 2.
    assert epsilon_squared([0.0, 2.0, 4.0, 6.0], ["a", "a", "b", "b"]) == pytest.approx(1 - (4 / 2) / (20 / 3))


@given(st.integers(0, 2**16))
def test_explained_share_of_chance_groups_is_small(seed):
    generator = np.random.default_rng(seed)
    assert epsilon_squared(generator.normal(size=300), generator.permutation(["a", "b", "c"] * 100).tolist()) < 0.15


def test_a_large_share_of_few_values_may_be_chance():
    values, groups = [0.0, 2.0, 4.0, 6.0], ["a", "a", "b", "b"]
    # Of the 24 orders, 8 part the two lowest from the two highest.
    assert epsilon_squared_p(values, groups) == pytest.approx(8 / 24, abs=0.04)
    many = [*np.arange(20.0), *np.arange(15.0, 35.0)]
    assert epsilon_squared_p(many, ["a"] * 20 + ["b"] * 20) < 0.001


def test_chances_are_written_as_in_articles():
    assert [chance_text(one) for one in (0.0, 0.0312, 1.0)] == ["p < .001", "p = .031", "p = 1.000"]
