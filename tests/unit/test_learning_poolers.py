"""Poolers that learn inside a fold: from training utterances alone, a few at a time, and kept in the fold's model."""

import weakref

import numpy as np
import pytest

from bserkit import BserkitError, ChannelView, FittedPooler, LearningPooler
from bserkit.learning.model_files import load_model, save_model
from bserkit.learning.pooled import fit_pooler, pool_features
from bserkit.plugins.builtin.codebooks import Vlad
from bserkit.plugins.builtin.normalisers import Speaker
from bserkit.plugins.builtin.poolers import GlobalAverage
from bserkit.plugins.registry import load_plugins

BUILT_IN = load_plugins(outside=False)


def segments_of(*values):
    """Return a channel whose utterances have these segments."""
    values = [np.array(one, dtype=np.float32).reshape(len(one), -1) for one in values]
    names = np.full(len(values), "")
    return ChannelView(values, names, names, names)


def test_vlad_adds_up_differences_from_nearest_centres():
    recipe = Vlad(centres=2, root=False, unit=False)
    fitted = recipe.fit(segments_of([[0, 0], [0, 2]], [[10, 0], [10, 2]]))
    order = np.argsort(fitted.centres[:, 0])
    assert fitted.centres[order].tolist() == [[0, 1], [10, 1]]
    made = fitted.pool(np.array([[1, 1], [2, 3], [9, 0]], dtype=np.float32)).reshape(2, 2)
    assert made[order].tolist() == [[3, 2], [-1, -1]]
    rooted = replace_fields(recipe, root=True).restore(fitted.state()).pool(np.array([[4, 2]], dtype=np.float32))
    assert rooted.reshape(2, 2)[order].tolist() == [[2, 1], [0, 0]]
    unit = replace_fields(recipe, unit=True).restore(fitted.state()).pool(np.array([[3, 5]], dtype=np.float32))
    assert unit.reshape(2, 2)[order].tolist() == pytest.approx(np.array([[0.6, 0.8], [0, 0]]))


def replace_fields(recipe, **changed):
    return recipe.model_copy(update=changed)


def test_vlad_of_a_segment_at_a_centre_is_zero():
    fitted = Vlad(centres=1).fit(segments_of([[1.0], [3.0]]))
    assert fitted.pool(np.array([[2.0]], dtype=np.float32)).tolist() == [0.0]


def test_vlad_makes_nothing_of_rounding():
    generator = np.random.default_rng(0)
    # A feature is always zero, another always the same; a centre has but one utterance's segments.
    utterances = [np.column_stack([generator.normal(size=(7, 3)), np.zeros(7), np.full(7, 0.1)]) for _ in range(5)]
    utterances[4][:, 0] += 50
    fitted = Vlad(centres=2).fit(segments_of(*utterances))
    made = [fitted.pool(one).reshape(2, 5) for one in segments_of(*utterances).values]
    assert not np.abs(made)[:, :, 3:].any()
    assert not made[4].any()
    assert np.abs(made[0]).sum() > 1


def test_vlad_is_the_same_each_time_and_moves_by_seed():
    view = segments_of(*np.random.default_rng(0).normal(size=(20, 30, 4)))
    one, again, other = (Vlad(sample=100, seed=seed).fit(view).centres for seed in (0, 0, 1))
    assert one.tobytes() == again.tobytes()
    assert one.tobytes() != other.tobytes()


def test_vlad_with_too_few_segments_is_refused():
    with pytest.raises(
        BserkitError, match=r"vlad:centres=4 needs a training segment for each of its 4 .* given 3 of 2"
    ):
        Vlad(centres=4).fit(segments_of([[1.0], [2.0]], [[3.0]]))


@pytest.mark.filterwarnings("error")
def test_vlad_of_segments_that_are_alike_is_fitted():
    assert Vlad(centres=3).fit(segments_of([[1.0]] * 5)).centres.shape == (3, 1)


def test_vlad_holds_no_more_segments_than_its_sample():
    class Read:
        """Makes segments when they are asked for, and counts those that are still there."""

        def __init__(self):
            self.alive, self.most = weakref.WeakSet(), 0

        def __len__(self):
            return 40

        def __iter__(self):
            for index in range(40):
                one = np.random.default_rng(index).normal(size=(500, 2)).view(Watched)
                self.alive.add(one)
                self.most = max(self.most, len(self.alive))
                yield one
                del one

    class Watched(np.ndarray):
        __hash__ = object.__hash__

    read, names = Read(), np.full(40, "")
    Vlad(sample=80).fit(ChannelView(read, names, names, names))
    assert read.most <= 4


def test_a_pooler_learns_from_training_alone(spoken):
    class Counting(Vlad):
        name = "counting"

        def fit(self, training):
            given.append((len(training), sorted(set(training.speakers.tolist())), training.labels.tolist()))
            lengths.append([len(one) for one in training.values])
            assert len(training.values[1:3]) == 2
            return super().fit(training)

    given, lengths = [], []
    result, _ = spoken.learned(Counting(centres=2))
    labels = ["a", "b", "a"] * 2
    assert given == [(6, ["s0", "s1"], labels)] * 2
    assert lengths == [[2, 2, 3] * 2] * 2
    assert result.utterances.tolist() == [6, 7, 8]


def test_a_loaded_model_pools_and_scores_bit_for_bit(spoken, tmp_path):
    result, model = spoken.learned(Vlad(centres=2))
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path / "model", BUILT_IN.make)
    assert loaded.pooler.recipe == Vlad(centres=2)
    views = pool_features(spoken.checked, spoken.extraction, loaded.pooler, spoken.workspace)
    made = loaded.scores(views.take(spoken.fold.test))
    assert made.tobytes() == result.scores["fusion"].tobytes()
    save_model(loaded, tmp_path / "again")
    assert (tmp_path / "again" / "model.json").read_bytes() == (tmp_path / "model" / "model.json").read_bytes()


def test_a_pooler_and_a_normaliser_are_kept_together(spoken, tmp_path):
    result, model = spoken.learned(Vlad(centres=2), Speaker())
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path / "model", BUILT_IN.make)
    views = pool_features(spoken.checked, spoken.extraction, loaded.pooler, spoken.workspace)
    made = loaded.scores(views.take(spoken.fold.test))
    assert made.tobytes() == result.scores["fusion"].tobytes()


@pytest.mark.parametrize("pooler", [GlobalAverage(), "another fold's"])
def test_views_of_another_pooler_are_refused(spoken, pooler):
    _, model = spoken.learned(Vlad(centres=2))
    if isinstance(pooler, str):
        pooler = fit_pooler(spoken.checked, [spoken.extraction], Vlad(centres=2), np.arange(3), spoken.workspace)
    views = pool_features(spoken.checked, spoken.extraction, pooler, spoken.workspace)
    with pytest.raises(BserkitError, match="views"):
        model.scores(views)


def test_a_pooler_learns_once_a_fold(spoken):
    source = spoken.source(Vlad(centres=2))
    assert source.views(0).pooler is source.views(0).pooler


def test_features_that_vanish_are_computed_anew(spoken):
    one, other = (spoken.source(Vlad(centres=2)) for _ in range(2))
    before = one.views(0).features["left"]
    for path in spoken.workspace.store.root.rglob("*.safetensors"):
        path.unlink()
    assert other.views(0).features["left"].tolist() == before.tolist()


def test_a_learning_pooler_cannot_pool_without_fold():
    with pytest.raises(BserkitError, match="pooler vlad learns from the training utterances of a fold"):
        Vlad().pool(np.zeros((3, 2), dtype=np.float32))


class Odd(LearningPooler):
    """Learns nothing."""

    name = "odd"

    def fit(self, training):
        return None

    def restore(self, state):
        raise NotImplementedError


def test_what_a_pooler_learned_is_checked(spoken):
    with pytest.raises(BserkitError, match="pooler odd learned NoneType from channel left; expected a FittedPooler"):
        spoken.learned(Odd())


def test_a_fitted_pooler_is_held_to_its_contract(spoken):
    class Empty(FittedPooler):
        def pool(self, segments):
            return segments

        def state(self):
            return {}

    class Wide(Odd):
        name = "wide"

        def fit(self, training):
            return Empty()

    with pytest.raises(BserkitError, match=r"pooler wide made float32 \(2, 192\) of channel left"):
        spoken.learned(Wide())
