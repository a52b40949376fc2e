import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from bserkit import BserkitError, UsageError
from bserkit import devices as hardware
from bserkit.cli import main
from bserkit.devices import compute_whole_fp32, resolve_device, resolve_precision
from bserkit.experiments.settings import SETTINGS, defaults, read_config, resolve
from bserkit.plugins.registry import load_plugins

PLUGINS = load_plugins(outside=False)
HERE = {"device": "cpu", "precision": "fp32"}


def resolved(**given_values):
    return resolve(HERE | {key.replace("_", "-"): value for key, value in given_values.items()}, PLUGINS)


def config(folder, text):
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def corpus(folder):
    for speaker in ("f1", "m1"):
        for label in ("dis", "gio"):
            path = folder / speaker / f"{label}-{speaker}-b1.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, np.full((40, 2), 0.1), 16000)
    return folder


@pytest.fixture
def settings_of(monkeypatch):
    """Return what a command line resolves to, without running it."""

    def settings_of(*arguments):
        caught = {}

        def stop(settings, plugins, workspace):
            caught.update(settings=settings, store=workspace.store)
            raise BserkitError("far enough")

        monkeypatch.setattr("bserkit.experiments.run.plan", stop)
        result = CliRunner().invoke(main, ["run", "--quiet", "--device", "cpu", *map(str, arguments)])
        assert "far enough" in result.output, result.output
        return SimpleNamespace(**caught)

    return settings_of


def test_defaults_are_the_papers_choices():
    found = resolved(data="nowhere", corpus="emovo")
    assert [component.spec for component in found.components()] == [
        "emovo", "lr", "ms", "logmel", "alexnet", "block-max", "linear-svm", "two-stage", "loso",
    ]  # fmt: skip
    assert (found.seed, found.mono, found.experiment, found.run_name) == (0, "refuse", "bserkit", None)


def test_every_default_names_what_exists():
    assert resolve(defaults() | {"device": "cpu"}, PLUGINS).experiment == "bserkit"


def test_the_demonstration_is_a_corpus_of_no_place(tmp_path):
    demo = resolved()
    assert demo == resolved(corpus="demo")
    assert demo.command() == "bserkit run --backbone alexnet:weights=random"
    assert (demo.flat()["data"], demo.flat()["corpus"]) == ("demo", "demo")
    assert resolved(**read_config(config(tmp_path, demo.to_toml()))) == demo


def test_a_reader_without_data_is_refused():
    with pytest.raises(UsageError, match="--corpus emovo says how to read DATA, but no DATA is named"):
        resolved(corpus="emovo")


def test_the_demonstration_at_a_named_place_is_refused(tmp_path):
    with pytest.raises(UsageError, match=f"which bserkit makes itself, but DATA is {tmp_path}"):
        resolved(data=tmp_path, corpus="demo")


def test_the_demonstration_needs_no_download():
    assert resolved().extraction.backbone.weights == "random"
    assert resolved().data is None
    assert resolved(data="nowhere", corpus="emovo").extraction.backbone.weights == "imagenet"


def test_options_win_over_file_and_file_over_defaults(settings_of, tmp_path):
    path = config(tmp_path, 'seed = 5\npooler = "global-avg"\nclassifier = "linear-svm:c=10"\n')
    found = settings_of("--config", path, "--pooler", "global-max").settings
    assert found.pooler.spec == "global-max"
    assert found.classifier.spec == "linear-svm:c=10.0"
    assert found.seed == 5
    assert found.protocol.spec == "loso"


def test_an_option_equal_to_the_default_beats_the_file(settings_of, tmp_path):
    path = config(tmp_path, 'seed = 5\nmono = "skip"\n')
    found = settings_of("--config", path, "--seed", "0", "--mono", "refuse").settings
    assert (found.seed, found.mono) == (0, "refuse")


def test_an_option_replaces_the_whole_component(settings_of, tmp_path):
    path = config(tmp_path, '[pooler]\nname = "block-max"\nblocks = 4\npyramid = true\n')
    assert settings_of("--config", path).settings.pooler.spec == "block-max:blocks=4,pyramid=true"
    assert settings_of("--config", path, "--pooler", "block-max:blocks=3").settings.pooler.spec == "block-max:blocks=3"


@pytest.mark.parametrize("key", ["normaliser", "finetune"])
def test_none_leaves_a_stage_out(settings_of, tmp_path, key):
    spelt = {"normaliser": "speaker:by=each", "finetune": "sgd:epochs=2"}[key]
    path = config(tmp_path, f'{key} = "{spelt}"\n')
    assert getattr(settings_of("--config", path).settings, key).spec == spelt
    without = settings_of("--config", path, f"--{key}", "none").settings
    assert without == settings_of().settings
    assert not [name for name in without.flat() if name.startswith(key)]
    assert f"--{key}" not in without.command()


def test_data_on_the_command_line_beats_data_in_file(settings_of, tmp_path):
    first, second = corpus(tmp_path / "first"), corpus(tmp_path / "second")
    path = config(tmp_path, 'data = "first"\n')
    assert settings_of("--config", path).settings.data == first.resolve()
    assert settings_of(second, "--config", path).settings.data == second.resolve()


def test_files_spell_components_as_table_list_or_text(tmp_path):
    path = config(
        tmp_path,
        'frontend = "logmel:mels=32"\n'
        '[[channels]]\nname = "lr"\n[[channels]]\nname = "mono"\n'
        '[fusion]\nname = "two-stage"\nmetric = "uar"\n',
    )
    found = resolve(HERE | read_config(path), PLUGINS)
    assert [transform.name for transform in found.extraction.transforms] == ["lr", "mono"]
    assert found.extraction.frontend.mels == 32
    assert found.fusion.metric == "uar"


@pytest.mark.parametrize("channels", ["lr,mono", ["lr", "mono"], ["lr,mono"], [{"name": "lr"}, "mono"]])
def test_channels_are_the_same_however_they_are_listed(channels):
    assert [transform.name for transform in resolved(channels=channels).extraction.transforms] == ["lr", "mono"]


def test_unknown_settings_are_refused_with_known_ones(tmp_path):
    path = config(tmp_path, 'pooller = "block-max"\n')
    with pytest.raises(UsageError) as caught:
        read_config(path)
    message = str(caught.value)
    assert f"{path}: there is no setting 'pooller' (did you mean 'pooler'?)" in message
    for known in SETTINGS:
        assert known in message


@pytest.mark.parametrize("text", ["seed = ", "[pooler\n", "= 3", "seed = 1\nseed = 2"])
def test_a_file_that_is_not_toml_is_refused(tmp_path, text):
    with pytest.raises(UsageError, match=r"The configuration file .*run\.toml is not TOML"):
        read_config(config(tmp_path, text))


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_config(tmp_path / "none.toml")
    with pytest.raises(UsageError, match="cannot be read"):
        read_config(tmp_path)
    path = tmp_path / "latin.toml"
    path.write_bytes('experiment = "Gefühl"'.encode("latin-1"))
    with pytest.raises(UsageError, match="cannot be read"):
        read_config(path)


@pytest.mark.parametrize("key", ["data", "plugins-dir", "cache"])
def test_relative_paths_begin_where_the_file_lies(tmp_path, key, monkeypatch):
    folder = tmp_path / "configs"
    folder.mkdir()
    config(folder, f'{key} = "../there"\n')
    monkeypatch.chdir(tmp_path)
    assert (tmp_path / read_config(Path("configs/run.toml"))[key]).resolve() == (tmp_path / "there").resolve()


@pytest.mark.parametrize("key", ["data", "plugins-dir", "cache"])
def test_absolute_and_home_paths_stand_for_themselves(tmp_path, key, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    absolute = tmp_path / "elsewhere"
    assert read_config(config(tmp_path, f"{key} = '{absolute}'\n"))[key] == str(absolute)
    assert read_config(config(tmp_path, f'{key} = "~/x"\n'))[key] == str(tmp_path / "home" / "x")


@pytest.mark.parametrize(
    "text", ['backbone = "alexnet:weights=net.pth"', '[backbone]\nname = "alexnet"\nweights = "net.pth"']
)
def test_a_relative_weights_path_starts_at_the_file(tmp_path, monkeypatch, text):
    folder = tmp_path / "configs"
    folder.mkdir()
    path = config(folder, text)
    monkeypatch.chdir(tmp_path)
    assert Path(resolve(HERE | read_config(path), PLUGINS).extraction.backbone.weights) == folder / "net.pth"


def test_a_relative_folds_path_starts_at_the_file(tmp_path):
    text = 'data = "x"\nprotocol = "folds:path=folds.csv"\ncorpus = "emovo"'
    found = resolved(**read_config(config(tmp_path, text)))
    assert found.protocol.path == str(tmp_path / "folds.csv")


@pytest.mark.parametrize("spelt", ["file:path=folds.csv", {"name": "file", "path": "folds.csv"}])
def test_the_former_name_of_a_folds_file_is_understood(spelt):
    found = resolved(protocol=spelt)
    assert found.protocol == resolved(protocol="folds:path=folds.csv").protocol
    assert (found.flat()["protocol"], found.protocol.spec.partition("=")[0]) == ("folds", "folds:path")


@pytest.mark.parametrize("value", ["yes", 1, "true"])
def test_allowing_speaker_overlap_is_true_or_false(value):
    with pytest.raises(UsageError, match="expected true or false"):
        resolved(**{"allow-speaker-overlap": value})


def test_overlap_may_be_allowed_by_option_or_by_file(settings_of, tmp_path):
    given_file = config(tmp_path, "allow-speaker-overlap = true")
    assert not settings_of().settings.allow_speaker_overlap
    assert settings_of("--allow-speaker-overlap").settings.allow_speaker_overlap
    assert settings_of("--config", given_file).settings.allow_speaker_overlap


def test_the_cache_and_plugins_of_the_file_are_used(settings_of, tmp_path):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "outsider.py").write_text(
        "from bserkit import ChannelTransform, hookimpl\n"
        "class Outsider(ChannelTransform):\n"
        "    name = 'outsider'\n"
        "    outputs = ('left',)\n"
        "    def transform(self, stereo):\n"
        "        return stereo[:1]\n"
        "@hookimpl\n"
        "def bserkit_channels():\n"
        "    return [Outsider]\n"
    )
    path = config(tmp_path, 'plugins-dir = "plugins"\ncache = "kept"\nchannels = "outsider"\n')
    found = settings_of("--config", path)
    assert found.settings.extraction.transforms[0].name == "outsider"
    assert found.store.root == tmp_path / "kept"


def test_the_seed_reaches_components_without_their_own():
    assert resolved(seed=7).extraction.backbone.seed == 7
    assert resolved(seed="7").extraction.backbone.seed == 7
    assert resolved(seed=7, backbone="alexnet:weights=random,seed=3").extraction.backbone.seed == 3
    assert resolved(seed=7, backbone={"name": "alexnet", "seed": 0}).extraction.backbone.seed == 0


@pytest.mark.parametrize("seed", ["x", "1.5", 1.5, "", True, None])
def test_a_seed_that_is_no_whole_number_is_refused(seed):
    with pytest.raises(UsageError, match=r"seed is .*; expected a whole number"):
        resolved(seed=seed)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("mono", "keep", "--mono keep is not known; expected refuse, duplicate, skip"),
        ("microphones", "1", "--microphones 1 is not known; expected the numbers of two channels"),
        ("microphones", "1,2,3", "--microphones 1,2,3 is not known"),
        ("microphones", "0,1", "--microphones 0,1 is not known"),
        ("microphones", "2,2", "--microphones 2,2 is not known"),
        ("microphones", "left,right", "--microphones left,right is not known"),
        ("pooler", "block-maks", r"There is no pooler named 'block-maks' \(did you mean 'block-max'\?\)"),
        ("pooler", "block-max:block=2", r"no parameter 'block' \(did you mean 'blocks'\?\)"),
        ("pooler", "block-max,block-avg", "pooler takes one component, but 'block-max,block-avg' names 2"),
        ("protocol", 5, "5 is not a component"),
        ("channels", "lr,lr", "Channels lr and lr both make a channel 'left'"),
        ("channels", "lr,nothing", "There is no channels named 'nothing'"),
        ("channels", "", "empty component name"),
        ("channels", [], "channels"),
        ("pooler", [], "pooler takes one component"),
        ("corpus", "emovoo", r"There is no corpus named 'emovoo' \(did you mean 'emovo'\?\)"),
        ("data", 5, "data"),
        ("run_name", 5, "run-name"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(key, value, message):
    with pytest.raises(UsageError, match=message):
        resolved(**{key: value})


def test_the_reader_is_found_from_data_unless_named(tmp_path):
    root = corpus(tmp_path)
    found = resolved(data=root)
    assert (found.corpus.name, found.found_reader) == ("emovo", True)
    named = resolved(data=root, corpus="folders")
    assert (named.corpus.name, named.found_reader) == ("folders", False)
    with pytest.raises(UsageError, match="There is no corpus at"):
        resolved(data=tmp_path / "nowhere")


COMPONENTS = {
    "channels": ["lr,ms", "mono", "ms", "lr,mono"],
    "frontend": ["logmel", "logmel:mels=32,log_offset=1e-10,normalise=none", "logmel:window_ms=20.5"],
    "backbone": ["alexnet", "alexnet:layer=fc6,weights=random", "torchvision:arch=squeezenet1_1,seed=4"],
    "pooler": ["block-max", "block-avg:blocks=3,pyramid=true", "global-max"],
    "normaliser": ["none", "speaker", "speaker:by=each,least=3", "pca:components=9", "pca:share=0.5"],
    "classifier": ["linear-svm", "linear-svm:c=search", "linear-svm:c=0.1,scale=none"],
    "fusion": ["two-stage", "two-stage:tune=oracle,metric=uar", "feature", "mean"],
    "protocol": ["loso", "losgo:groups=3", "predefined:train=a b,test=c"],
    "mono": ["refuse", "skip", "duplicate"],
    "microphones": ["refuse", "skip", "1,3", [6, 2]],
    "precision": ["fp32", "bf16"],
    "corpus": [{"name": "folders", "speaker": "^(s[0-9]{1,2})\\.\"'x"}, "folders", "csv", "ravdess:vocal=both"],
}
CHOICES = st.fixed_dictionaries(
    {},
    optional={key: st.sampled_from(values) for key, values in COMPONENTS.items()}
    | {
        "seed": st.integers(0, 2**32 - 1),
        "experiment": st.text(st.characters(codec="utf-8"), min_size=1),
        "run-name": st.text(st.characters(codec="utf-8"), min_size=1),
        "data": st.just("some/where"),
    },
)


def chosen(values):
    if "data" in values:
        values = {"corpus": "emovo"} | values
    values = {key: value for key, value in values.items() if key != "corpus" or "data" in values}
    return resolve(HERE | values, PLUGINS)


@given(CHOICES)
def test_written_configurations_give_the_same_settings(values):
    found = chosen(values)
    assert resolve(tomllib.loads(found.to_toml()), PLUGINS) == found


def test_written_configurations_name_the_found_reader(tmp_path):
    found = resolved(data=corpus(tmp_path))
    written = config(tmp_path, found.to_toml())
    assert resolve(read_config(written), PLUGINS) == replace(found, found_reader=False)


def test_written_configurations_spell_all_parameters():
    document = tomllib.loads(resolved(pooler="block-max").to_toml())
    assert document["pooler"] == {"name": "block-max", "blocks": 2, "pyramid": False, "magnitude": True, "deltas": True}


@given(CHOICES)
def test_flat_lists_each_parameter_once_under_its_kind(values):
    found = chosen(values)
    flat = found.flat()
    expected = {"data", "device", "precision", "seed", "mono", "microphones", "allow-speaker-overlap"}
    for component in found.components():
        expected.add(component.kind)
        prefix = f"channels.{component.name}" if component.kind == "channels" else component.kind
        expected |= {f"{prefix}.{parameter}" for parameter in component.parameters}
    assert set(flat) == expected
    assert all(isinstance(value, str) for value in flat.values())
    assert flat["pooler"] == found.pooler.name
    assert flat["channels"] == ",".join(transform.name for transform in found.extraction.transforms)


def test_flat_spells_values_as_they_would_be_typed():
    flat = resolved(pooler="block-max:blocks=3,pyramid=true", seed=4).flat()
    assert (flat["pooler"], flat["pooler.blocks"], flat["pooler.pyramid"]) == ("block-max", "3", "true")
    assert (flat["seed"], flat["device"], flat["precision"]) == ("4", "cpu", "fp32")


@pytest.fixture
def gpus(monkeypatch):
    """Pretend that torch sees some GPUs of a capability."""

    def gpus(count, capability=(8, 0)):
        cuda = SimpleNamespace(
            is_available=lambda: count > 0, device_count=lambda: count, get_device_capability=lambda device: capability
        )
        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
        monkeypatch.setattr(hardware, "_GPU_DRIVERS", (Path(__file__),))

    return gpus


@pytest.mark.parametrize("asked", ["gpu", "CUDA", "cuda:", "cuda:x", "cuda:-1", "", "cpu:0"])
def test_an_unknown_device_is_refused_with_known_ones(asked):
    with pytest.raises(UsageError, match=f"--device {asked} is not known; expected auto, cpu, cuda or cuda:N"):
        resolve_device(asked)


@pytest.mark.parametrize(
    ("asked", "count", "expected"),
    [
        ("auto", 0, "cpu"),
        ("auto", 1, "cuda:0"),
        ("cuda", 1, "cuda:0"),
        ("cuda:1", 2, "cuda:1"),
        ("cpu", 2, "cpu"),
    ],
)
def test_auto_device_is_the_first_gpu_if_there_is_one(gpus, asked, count, expected):
    gpus(count)
    assert resolve_device(asked) == expected


@pytest.mark.parametrize(("asked", "count"), [("cuda", 0), ("cuda:0", 0), ("cuda:1", 1), ("cuda:7", 2)])
def test_a_missing_device_is_refused_with_the_ways_out(gpus, asked, count):
    gpus(count)
    with pytest.raises(UsageError, match=rf"--device {asked} is not there: torch sees {count} .*--device cpu or auto"):
        resolve_device(asked)


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
@pytest.mark.parametrize("asked", ["fp8", "float16", "", "FP32"])
def test_an_unknown_precision_is_refused_with_known(asked, device):
    with pytest.raises(UsageError, match=f"--precision {asked} is not known; expected auto, fp32, bf16, fp16"):
        resolve_precision(asked, device)


def test_half_precision_is_refused_on_a_processor():
    with pytest.raises(UsageError, match="--precision fp16 is for GPUs; on a processor use bf16, fp32 or auto"):
        resolve_precision("fp16", "cpu")


@pytest.mark.parametrize(
    ("asked", "capability", "expected"),
    [
        ("auto", (8, 0), "bf16"), ("auto", (9, 0), "bf16"), ("auto", (7, 5), "fp16"),
        ("fp32", (8, 0), "fp32"), ("fp16", (9, 0), "fp16"), ("bf16", (7, 5), "bf16"),
    ],
)  # fmt: skip
def test_auto_precision_on_gpu_is_its_half_precision(gpus, asked, capability, expected):
    gpus(1, capability)
    assert resolve_precision(asked, "cuda:0") == expected


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_the_default_is_fp32_whatever_is_faster_here(gpus, monkeypatch, device):
    gpus(1)
    monkeypatch.setattr(hardware, "_processor_has_bf16", lambda: True)
    assert resolve({"device": device}, PLUGINS).extraction.precision == "fp32"
    assert resolve({"device": device, "precision": "auto"}, PLUGINS).extraction.precision == "bf16"


@pytest.mark.parametrize("fast", [True, False])
def test_commands_name_the_precision_unless_it_is_fp32(monkeypatch, fast):
    monkeypatch.setattr(hardware, "_processor_has_bf16", lambda: fast)
    assert "--precision" not in resolved().command()
    assert "--precision bf16" in resolved(precision="bf16").command()


@pytest.mark.parametrize("asked", ["tf32", "medium"])
def test_fp32_is_multiplied_whole_whatever_was_set(asked):
    matmul, convolve = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    if asked == "tf32":
        convolve.fp32_precision = matmul.fp32_precision = "tf32"
    else:
        torch.set_float32_matmul_precision(asked)
    compute_whole_fp32()
    assert not matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32
    assert torch.get_float32_matmul_precision() == "highest"
    cpu = torch.backends.mkldnn
    everything = (matmul, convolve, torch.backends.cudnn.rnn, cpu.matmul, cpu.conv, cpu.rnn)
    assert {operation.fp32_precision for operation in everything} == {"ieee"}


@pytest.mark.parametrize(("fast", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_precision_on_cpu_is_bf16_only_if_fast(monkeypatch, fast, expected):
    monkeypatch.setattr(hardware, "_processor_has_bf16", lambda: fast)
    assert resolve_precision("auto", "cpu") == expected
    assert resolve_precision("bf16", "cpu") == "bf16"
    assert resolve_precision("fp32", "cpu") == "fp32"


def test_auto_without_a_gpu_driver_needs_no_torch(monkeypatch):
    monkeypatch.setattr(hardware, "_GPU_DRIVERS", ())
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert resolve_device("auto") == "cpu"
