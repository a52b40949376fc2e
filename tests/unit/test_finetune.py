"""Fine-tuning: learned from a fold's training speakers alone, the same twice, and after a break as without one."""

import hashlib
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save, save_file

from bserkit import Backbone, BserkitError, UsageError, Utterance, Views
from bserkit.corpora.audio import content_digest
from bserkit.corpora.checking import Checked
from bserkit.corpora.protocols import Fold
from bserkit.corpora.reading import Corpus
from bserkit.evaluation.cross_validation import evaluate
from bserkit.experiments.features import PooledByFold
from bserkit.experiments.settings import read_config, resolve
from bserkit.features.extraction import Extraction, extract, pending
from bserkit.features.finetuning import Sgd, trainings
from bserkit.features.training import check_trainable, train
from bserkit.plugins.builtin import networks
from bserkit.plugins.builtin.backbones import AlexNet, Torchvision
from bserkit.plugins.builtin.channels import LeftRight, Mono
from bserkit.plugins.builtin.classifiers import LinearSvm
from bserkit.plugins.builtin.frontends import LogMel
from bserkit.plugins.builtin.fusers import Feature
from bserkit.plugins.builtin.poolers import GlobalAverage
from bserkit.plugins.registry import load_plugins
from bserkit.progress import Silent
from bserkit.schema import FUSION
from bserkit.store import FeatureStore
from bserkit.workspace import Workspace

SPEAKERS = ("ann", "bob", "cat", "dan")
LABELS = ("calm", "glad", "mad")
#: The speaker that the first fold leaves out.
TEST_SPEAKER = SPEAKERS[0]
PLANES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


class Tiny(Backbone):
    """A network with all that has a state of its own while it learns: momentum, dropout, batch normalisation."""

    name = "tiny"
    seed: int = 0

    def weights_digest(self):
        return f"tiny {self.seed}"

    def feature_size(self):
        return 5

    def load(self, device):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            layers = [torch.nn.AdaptiveAvgPool2d(8), torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten()]
            layers += [torch.nn.Dropout(0.2), torch.nn.Linear(144, 5), torch.nn.BatchNorm1d(5), torch.nn.ReLU()]
            return torch.nn.Sequential(*layers).to(device).eval()


class Fixed(Tiny):
    """A network none of whose values may change."""

    name = "fixed"

    def load(self, device):
        return super().load(device).requires_grad_(False)


MONO = (Mono(),)


def extraction(backbone=None, precision="fp32", transforms=MONO):
    return Extraction(transforms, LogMel(), backbone or Tiny(), "cpu", precision)


def folds_of(utterances):
    speakers = np.array([utterance.speaker for utterance in utterances])
    return [Fold(name, np.flatnonzero(speakers != name), np.flatnonzero(speakers == name)) for name in SPEAKERS]


@pytest.fixture
def utterances(tmp_path):
    """Twelve utterances or so; some are shorter than a segment, and there are not equally many of each class."""
    made = []
    for number, speaker in enumerate(SPEAKERS):
        for emotion, label in enumerate((*LABELS, "calm")):
            generator = np.random.default_rng((number, emotion))
            path = tmp_path / f"{speaker}-{emotion}.wav"
            seconds = 0.3 if emotion == 1 else 1.4
            tone = np.sin(np.arange(int(16000 * seconds)) * (0.05 + 0.05 * emotion))[:, None]
            soundfile.write(path, 0.3 * tone + 0.05 * generator.normal(size=(len(tone), 2)), 16000)
            made.append(Utterance(path, label, speaker))
    return made


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "store")


def plan(utterances, recipe=None, digests=None, **settings):
    digests = digests or [content_digest(utterance) for utterance in utterances]
    return trainings(
        recipe or Sgd(epochs=2, lr=0.05), extraction(**settings), utterances, digests, folds_of(utterances)
    )


def learn(training, store, note=lambda epoch, numbers: None):
    return train(training, store, note)


def curves(trained):
    """Return what does not depend on the clock."""
    return [{name: one[name] for name in one if "second" not in name} for one in trained.curves]


def digest(trained):
    return hashlib.sha256(trained.weights.read_bytes()).hexdigest()


def values(trained):
    return {name: value.tolist() for name, value in load_file(trained.weights).items()}


def stop_after(epoch):
    def note(number, _):
        if number == epoch:
            raise KeyboardInterrupt

    return note


def test_networks_train_only_on_their_folds_speakers(utterances):
    planned = plan(utterances, transforms=(LeftRight(),))
    assert [(one.fold, one.channel) for one in planned] == [(n, c) for n in SPEAKERS for c in ("left", "right")]
    for training in planned:
        assert {item.utterance.speaker for item in training.learned} == set(SPEAKERS) - {training.fold}
        assert not training.held_out


def test_training_lowers_the_loss_and_changes_features(utterances, store):
    training = plan(utterances, Sgd(epochs=30, lr=0.05, dropout=0.0))[0]
    trained = learn(training, store)
    assert trained.curves[-1]["train/loss"] < 0.5 * trained.curves[0]["train/loss"]
    assert not torch.equal(trained.backbone.load("cpu")(PLANES), Tiny().load("cpu")(PLANES))


def test_training_repeats_exactly_with_its_own_seed(utterances, tmp_path):
    training = plan(utterances)[0]
    before = torch.random.get_rng_state()
    one = learn(training, FeatureStore(tmp_path / "one"))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(7)
    other = learn(training, FeatureStore(tmp_path / "other"))
    assert digest(one) == digest(other)
    assert curves(one) == curves(other)


def test_seed_channel_and_fold_draw_different_numbers(utterances):
    planned = plan(utterances, transforms=(LeftRight(),)) + plan(utterances, Sgd(epochs=2, lr=0.05, seed=1))
    assert len({training.seed_of(epoch) for training in planned for epoch in range(3)}) == 3 * len(planned)


@pytest.mark.parametrize("patience", [0, 3])
@pytest.mark.parametrize("epoch", [1, 2])
def test_interrupted_training_ends_as_uninterrupted(utterances, tmp_path, patience, epoch):
    training = plan(utterances, Sgd(epochs=4, lr=0.05, patience=patience))[0]
    whole = learn(training, FeatureStore(tmp_path / "whole"))
    store, noted = FeatureStore(tmp_path / "broken"), []
    with pytest.raises(KeyboardInterrupt):
        learn(training, store, stop_after(epoch))
    resumed = learn(training, store, lambda number, numbers: noted.append(number))
    assert digest(resumed) == digest(whole)
    assert curves(resumed) == curves(whole)
    assert noted == [1, 2, 3, 4]


def test_epochs_before_an_interruption_are_kept(utterances, store):
    training = plan(utterances, Sgd(epochs=3, lr=0.05))[0]
    with pytest.raises(KeyboardInterrupt):
        learn(training, store, stop_after(2))
    (checkpoint,) = store.root.rglob("checkpoint.safetensors")
    tensors = load_file(checkpoint)
    changed = {name: value + 100 if name == "model last.bias" else value for name, value in tensors.items()}
    noted = {"curves": json.dumps([{"train/loss": 1.0}, {"train/loss": 2.0}])}
    store.write_network(checkpoint, save(changed), noted)
    resumed = learn(training, store)
    assert [one["train/loss"] for one in resumed.curves[:2]] == [1.0, 2.0]
    assert len(resumed.curves) == 3
    assert not list(store.root.rglob("checkpoint.safetensors"))


def cut(content):
    return content[:100]


def emptied(content):
    return b""


def flipped(content):
    return content[:-9] + bytes([content[-9] ^ 64]) + content[-8:]


def zeroed(content):
    return content[:-4096] + bytes(4096)


def without_a_record(content):
    return content.replace(b'"curves"', b'"corves"')


DAMAGES = [cut, emptied, flipped, zeroed, without_a_record]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_begun_anew(utterances, store, tmp_path, damage):
    training = plan(utterances)[0]
    with pytest.raises(KeyboardInterrupt):
        learn(training, store, stop_after(1))
    (checkpoint,) = store.root.rglob("checkpoint.safetensors")
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))
    assert digest(learn(training, store)) == digest(learn(training, FeatureStore(tmp_path / "whole")))
    said = []
    store.tell_damage(said.append)
    assert "checkpoint.safetensors" in said[0]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_network_is_learned_anew(utterances, store, damage):
    training = plan(utterances)[0]
    first = digest(trained := learn(training, store))
    trained.weights.write_bytes(damage(trained.weights.read_bytes()))
    again = learn(training, store)
    assert not again.reused
    assert digest(again) == first
    said = []
    store.tell_damage(said.append)
    assert "weights.safetensors" in said[0]


@pytest.mark.parametrize("content", [None, b"", b"{}", b"[]"])
def test_lost_curves_are_those_of_the_network_itself(utterances, store, content):
    training = plan(utterances)[0]
    first = learn(training, store)
    (path,) = store.root.rglob("curves.json")
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    again = learn(training, store)
    assert again.reused
    assert digest(again) == digest(first)
    assert curves(again) == curves(first)


def test_a_network_of_another_fold_is_not_taken(utterances, store):
    one, other = plan(utterances)[:2]
    first, second = learn(one, store), learn(other, store)
    expected = digest(first)
    first.weights.write_bytes(second.weights.read_bytes())
    assert digest(learn(one, store)) == expected


def test_a_finished_training_is_reused_without_audio(utterances, store):
    training = plan(utterances)[0]
    first = learn(training, store)
    for utterance in utterances:
        utterance.path.unlink()
    noted = []
    again = learn(training, store, lambda number, numbers: noted.append(number))
    assert (first.reused, again.reused) == (False, True)
    assert noted == [1, 2]
    assert again.curves == first.curves
    assert again.backbone == first.backbone


STOPPING = Sgd(epochs=2, lr=0.05, patience=1, class_weight="balanced")


@pytest.mark.parametrize("recipe", [Sgd(epochs=2, lr=0.05), STOPPING], ids=["plain", "stopping and weighted"])
@pytest.mark.parametrize("poison", ["loud", "not numbers", "gone", "relabelled"])
def test_test_speakers_never_reach_their_network(utterances, tmp_path, recipe, poison):
    honest = learn(plan(utterances, recipe)[0], FeatureStore(tmp_path / "honest"))
    poisoned = list(utterances)
    for index, utterance in enumerate(utterances):
        if utterance.speaker != TEST_SPEAKER:
            continue
        if poison == "loud":
            soundfile.write(utterance.path, np.full((32000, 2), 1e4), 16000, "FLOAT")
        elif poison == "not numbers":
            soundfile.write(utterance.path, np.full((32000, 2), np.nan), 16000, "FLOAT")
        elif poison == "gone":
            utterance.path.unlink()
        else:
            poisoned[index] = replace(utterance, label="mad")
    gone = [str(number) for number in range(len(utterances))]
    digests = [content_digest(one) if one.path.exists() else name for one, name in zip(poisoned, gone, strict=True)]
    again = learn(plan(poisoned, recipe, digests)[0], FeatureStore(tmp_path / "poisoned"))
    assert digest(again) == digest(honest)
    assert curves(again) == curves(honest)


def test_changed_training_speech_changes_the_network(utterances, tmp_path):
    honest = learn(plan(utterances)[1], FeatureStore(tmp_path / "honest"))
    soundfile.write(utterances[0].path, 0.1 * np.random.default_rng(9).normal(size=(16000, 2)), 16000)
    assert digest(learn(plan(utterances)[1], FeatureStore(tmp_path / "changed"))) != digest(honest)


def test_the_order_and_names_of_files_change_no_bit(utterances, tmp_path):
    straight = learn(plan(utterances)[0], FeatureStore(tmp_path / "straight"))
    renamed = []
    for number, utterance in enumerate(reversed(utterances)):
        path = utterance.path.rename(utterance.path.with_name(f"{number}.wav"))
        renamed.append(replace(utterance, path=path))
    assert digest(learn(plan(renamed)[0], FeatureStore(tmp_path / "renamed"))) == digest(straight)


def test_early_stopping_holds_out_training_speakers(utterances):
    for training in plan(utterances, STOPPING):
        learned, held_out = (
            {item.utterance.speaker for item in items} for items in (training.learned, training.held_out)
        )
        assert learned | held_out == set(SPEAKERS) - {training.fold}
        assert len(held_out) == 1
        assert not learned & held_out


def test_stopping_early_goes_back_to_the_best_epoch(utterances, tmp_path):
    recipe = Sgd(epochs=40, lr=0.2, patience=2)
    stopped = learn(plan(utterances, recipe)[0], FeatureStore(tmp_path / "stopped"))
    losses = [one["validation/loss"] for one in stopped.curves]
    best = int(np.argmin(losses)) + 1
    assert len(losses) == best + 2 < 40
    short = learn(plan(utterances, recipe.model_copy(update={"epochs": best}))[0], FeatureStore(tmp_path / "short"))
    assert values(short) == values(stopped)


def test_class_weights_count_training_utterances_only(utterances):
    training = plan(utterances, Sgd(class_weight="balanced"))[0]
    # Three speakers with two calm, one glad and one mad utterance each.
    assert training.classes == LABELS
    assert training.class_weights() == [12 / (3 * 6), 12 / (3 * 3), 12 / (3 * 3)]
    assert plan(utterances)[0].class_weights() == [1.0, 1.0, 1.0]


def test_class_weights_move_the_network(utterances, tmp_path):
    plain, balanced = (
        learn(plan(utterances, Sgd(epochs=1, lr=0.05, class_weight=weight))[0], FeatureStore(tmp_path / weight))
        for weight in ("none", "balanced")
    )
    assert digest(plain) != digest(balanced)


def test_absent_training_classes_have_no_output(utterances, store):
    # Only the first speaker is ever mad.
    calm = {one for one in utterances if one.label == "mad" and one.speaker != TEST_SPEAKER}
    mild = [replace(one, label="calm") if one in calm else one for one in utterances]
    planned, folds = plan(mild), folds_of(mild)
    assert [training.classes for training in planned] == [LABELS[:2], LABELS, LABELS, LABELS]
    tuned = [replace(training.extraction, backbone=learn(training, store).backbone) for training in planned]
    digests = tuple(content_digest(utterance) for utterance in mild)
    for one in tuned:
        extract(pending(mild, digests, one, store), Workspace(store))
    corpus = Corpus(mild[0].path.parent, None, tuple(mild), ())
    checked = Checked(corpus, digests, (), ())
    result = evaluate(
        PooledByFold(checked, [[one] for one in tuned], folds, GlobalAverage(), Workspace(store)),
        folds, Feature(), LinearSvm(), Silent(),
    )  # fmt: skip
    assert result.scores[FUSION].shape == (len(mild), 3)


def test_a_fold_with_one_training_class_is_refused(utterances):
    calm = [replace(one, label="calm") if one.speaker != TEST_SPEAKER else one for one in utterances]
    with pytest.raises(UsageError, match=r"Fold ann: all 12 utterances to fine-tune on are labelled 'calm'"):
        plan(calm)


def test_early_stopping_needs_two_training_speakers(utterances):
    alike = [replace(one, speaker="bob") if one.speaker != TEST_SPEAKER else one for one in utterances]
    with pytest.raises(UsageError, match=r"one training speaker.*patience=0"):
        trainings(STOPPING, extraction(), alike, [content_digest(one) for one in alike], folds_of(alike)[:1])


def test_utterances_of_one_segment_are_learned_from(utterances, store):
    short = [one for one in utterances if one.label == "glad"]
    mixed = [replace(one, label="calm") if one.speaker in {"bob", "dan"} else one for one in short]
    training = plan(mixed, Sgd(epochs=1))[0]
    assert len(training.learned) == 3
    assert learn(training, store).curves[0]["train/loss"] > 0


def test_no_batch_is_left_with_a_single_segment(utterances, store):
    # There are 30 segments: batches of 29 would leave one over, of which batch normalisation can make nothing.
    (numbers,) = learn(plan(utterances, Sgd(epochs=1, batch=29))[0], store).curves
    assert numbers["train/accuracy"] * 30 == pytest.approx(round(numbers["train/accuracy"] * 30))


def test_frozen_convolutions_keep_their_values(utterances, store):
    training = plan(utterances, Sgd(epochs=1, lr=0.05, freeze="conv"))[0]
    before, after = Tiny().load("cpu"), learn(training, store).backbone.load("cpu")
    assert torch.equal(before[1].weight, after[1].weight)
    assert not torch.equal(before[5].weight, after[5].weight)


@pytest.mark.parametrize(
    ("backbone", "freeze", "said"),
    [
        (Fixed(), "none", "nothing that can be fine-tuned"),
        (Torchvision(arch="squeezenet1_1", weights="random"), "conv", "convolutions alone"),
    ],
    ids=["fixed", "all convolutions"],
)
def test_a_backbone_with_nothing_to_train_is_refused(backbone, freeze, said):
    with pytest.raises(UsageError, match=said):
        check_trainable(Sgd(freeze=freeze), backbone)


def test_a_non_finite_loss_is_an_error_with_advice(utterances, store):
    with pytest.raises(BserkitError, match=r"the loss is not a number any more\. Use a lower learning rate"):
        learn(plan(utterances, Sgd(epochs=9, lr=1e30))[0], store)


def test_bf16_training_gives_another_network(utterances, store):
    wide, narrow = (learn(plan(utterances, precision=precision)[0], store) for precision in ("fp32", "bf16"))
    assert wide.weights.parent != narrow.weights.parent
    assert digest(wide) != digest(narrow)
    for one, other in zip(wide.curves, narrow.curves, strict=True):
        assert one["train/loss"] == pytest.approx(other["train/loss"], rel=0.1)


@pytest.mark.parametrize(
    "backbone",
    [AlexNet(weights="random"), Torchvision(arch="squeezenet1_1", weights="random")],
    ids=["alexnet", "squeezenet"],
)
def test_a_kept_torchvision_network_is_a_weights_file(backbone, tmp_path):
    network = backbone.load("cpu")
    with torch.no_grad():
        for value in network.parameters():
            value.add_(0.01)
    path = tmp_path / "weights.safetensors"
    save_file(backbone.state(network), path)
    again = type(backbone)(**backbone.parameters | {"weights": str(path)})
    assert again == backbone.with_weights(path)
    with torch.inference_mode():
        assert torch.equal(again.load("cpu")(PLANES), network(PLANES))
    whole = networks.untrained(backbone.architecture(), backbone.seed).state_dict()
    changed = {name for name, value in load_file(path).items() if not torch.equal(value, whole[name])}
    last = "classifier.6" if backbone.architecture() == "alexnet" else "classifier.1"
    assert whole.keys() - changed == {f"{last}.weight", f"{last}.bias"}


def test_a_fine_tuned_squeezenet_has_its_own_features(utterances, store):
    backbone = Torchvision(arch="squeezenet1_1", weights="random")
    few = [one for one in utterances if one.label != "mad"][:6]
    digests, fold = [content_digest(one) for one in few], Fold("rest", np.arange(6), np.arange(0))
    (training,) = trainings(Sgd(epochs=1), extraction(backbone), few, digests, [fold])
    trained = learn(training, store)
    named = Torchvision(arch="squeezenet1_1", weights=str(trained.weights))
    assert trained.backbone == named
    tuned, frozen = (extraction(one).recipes()["mono"] for one in (trained.backbone, backbone))
    assert tuned["weights"] == digest(trained)
    assert store.features_path(tuned, "00") != store.features_path(frozen, "00")
    assert not torch.equal(named.load("cpu")(PLANES), backbone.load("cpu")(PLANES))


def test_backbones_without_weights_are_kept_whole(utterances, store):
    trained = learn(plan(utterances)[0], store)
    assert trained.backbone.weights_digest() == digest(trained)
    assert trained.backbone.feature_size() == 5
    network = Tiny().load("cpu")
    network.load_state_dict(load_file(trained.weights))
    assert torch.equal(trained.backbone.load("cpu")(PLANES), network(PLANES))
    others = [trained.backbone.model_copy(update={"base": Tiny(seed=1)}), trained.backbone]
    assert others[0].recipe() != others[1].recipe()


def test_each_fold_is_evaluated_by_views_of_its_own(utterances):
    generator = np.random.default_rng(0)
    labels = np.array([one.label for one in utterances])
    speakers = np.array([one.speaker for one in utterances])
    informed = (labels[:, None] == np.array(LABELS)) + 0.01 * generator.normal(size=(len(labels), 3))
    noise = generator.normal(size=informed.shape)
    views = [
        Views({"mono": values}, {"mono": "mono"}, LABELS, labels, speakers)
        for values in (informed, noise, noise, noise)
    ]
    result = evaluate(SimpleNamespace(views=views.__getitem__), folds_of(utterances), Feature(), LinearSvm(), Silent())
    assert result.measures(fold=0).accuracy == 1.0
    alone = evaluate(views[1], folds_of(utterances), Feature(), LinearSvm(), Silent())
    np.testing.assert_array_equal(result.scores[FUSION][result.fold_of > 0], alone.scores[FUSION][alone.fold_of > 0])


def test_fine_tuning_is_kept_in_the_configuration(tmp_path):
    plugins = load_plugins(outside=False)
    given = {"device": "cpu", "precision": "fp32", "seed": 4, "finetune": "sgd:epochs=3,freeze=conv"}
    settings = resolve(given, plugins)
    assert settings.finetune == Sgd(epochs=3, freeze="conv", seed=4)
    flat = settings.flat()
    assert (flat["finetune"], flat["finetune.epochs"], flat["finetune.freeze"]) == ("sgd", "3", "conv")
    (tmp_path / "run.toml").write_text(settings.to_toml())
    assert resolve(read_config(tmp_path / "run.toml"), plugins) == settings


def test_without_fine_tuning_nothing_is_said_of_it():
    settings = resolve({"device": "cpu", "precision": "fp32"}, load_plugins(outside=False))
    assert settings.finetune is None
    assert "finetune" not in settings.to_toml()
    assert not [name for name in settings.flat() if name.startswith("finetune")]


def test_the_papers_settings_are_the_defaults():
    recipe = Sgd()
    assert (recipe.epochs, recipe.lr, recipe.batch, recipe.dropout, recipe.patience) == (300, 0.001, 30, 0.5, 0)


def test_a_kept_network_is_listed_and_pruned(utterances, store):
    learn(plan(utterances)[0], store)
    (entry,) = store.entries()
    assert entry.described() == "mono, logmel, tiny, tiny 0, fp32, fine-tuned without ann"
    assert entry.files == 1
    assert store.prune() == (1, entry.size)
    assert not list(store.root.rglob("*.safetensors"))
