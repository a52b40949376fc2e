"""A run's settings, each declared once: defaults, then a configuration file, then options, resolved to components."""

from __future__ import annotations

import shlex
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from pydantic.dataclasses import dataclass

from bserkit.component import Component, Spec, read_specs
from bserkit.corpora.audio import Microphones, MonoPolicy
from bserkit.corpora.checking import read_microphones
from bserkit.corpora.demo import DEMO_CORPUS
from bserkit.corpora.protocols import Protocol
from bserkit.corpora.reading import CorpusReader, check_level, find_reader
from bserkit.devices import PRECISIONS, resolve_device, resolve_precision
from bserkit.errors import UsageError, nearest
from bserkit.experiments.declaration import Setting, one_spec, spell
from bserkit.features.backbones import Backbone
from bserkit.features.channels import ChannelTransform
from bserkit.features.extraction import Extraction
from bserkit.features.finetuning import FromRun, Sgd
from bserkit.features.frontends import Frontend
from bserkit.features.pooling import Pooler
from bserkit.learning.classifiers import Classifier
from bserkit.learning.fusion import Fuser
from bserkit.learning.normalising import Normaliser

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bserkit.plugins.registry import Plugins


#: How it is spelt that a stage which may be left out is left out.
NONE = "none"


@dataclass(frozen=True)
class Settings:
    """Everything that a run depends on, checked. ``_`` in a name is ``-`` where people type it.

    Attributes:
        data: the corpus's root; None for the demonstration corpus, which is made where features are kept.
        found_reader: whether the reader was found from the data rather than named.
        finetune: how each fold's networks are fine-tuned; None leaves the backbone as it is.
        normaliser: what changes pooled vectors by what it learned of those in training; None leaves them as they are.
        allow_speaker_overlap: whether folds with a speaker on both sides are evaluated, and the run tagged.
    """

    # fmt: off
    data: Annotated[Path | None, Setting(None, "A folder or a csv manifest.")]
    corpus: Annotated[CorpusReader, Setting(None,
        "How to read DATA; found from its files where that is clear. A value that holds a comma goes in double quotes: "
        r"""'folders:speaker="s(\d{1,3})_"'.""")]
    mono: Annotated[MonoPolicy, Setting("refuse",
        "For files without stereo: refuse, duplicate, skip.", metavar="POLICY")]
    microphones: Annotated[Microphones, Setting("refuse",
        "For files with more than two channels: which are left and right, such as 1,3; refuse, skip.",
        metavar="LEFT,RIGHT", reads=read_microphones)]
    channels: Annotated[tuple[ChannelTransform, ...], Setting("lr,ms",
        "Channel transforms, comma-separated.", axis=())]
    # Of a waveform there is one segment, the whole utterance: blocks of it would repeat it.
    frontend: Annotated[Frontend, Setting("logmel",
        "From waveform to segments.", instead={"waveform": "waveform"}, axis=())]
    # The demonstration needs no download.
    backbone: Annotated[Backbone, Setting("alexnet",
        "From segment to feature.", instead={DEMO_CORPUS: "alexnet:weights=random"}, axis=(),
        file=("weights", "imagenet", "random"))]
    finetune: Annotated[Sgd | FromRun | None, Setting(None,
        "Fine-tune the backbone in each fold (sgd), or take an earlier run's (from:run=RUN); else it stays.", axis=())]
    pooler: Annotated[Pooler, Setting("block-max",
        "From an utterance's segments to one vector.", instead={"waveform": "global-avg"},
        axis=("block-max", "block-avg", "global-max", "global-avg"))]
    normaliser: Annotated[Normaliser | None, Setting(None,
        "Change vectors by what those in training, or each speaker's own, are like; else, or by none, they stay.",
        axis=())]
    classifier: Annotated[Classifier, Setting("linear-svm",
        "From vector to class scores.", axis=())]
    # The oracle is reported beside the result, never as it.
    fusion: Annotated[Fuser, Setting("two-stage",
        "From channels to one decision.", axis=("two-stage:tune=oracle", "feature"))]
    protocol: Annotated[Protocol, Setting("loso",
        "loso, losgo:groups=N, predefined, stratified or folds:path=CSV.", file=("path",))]
    allow_speaker_overlap: Annotated[bool, Setting(False,
        "Evaluate folds with a speaker both in training and in test too; the run is tagged with their names.")]
    seed: Annotated[int, Setting(0,
        "Seed of every component that has one.", metavar="N")]
    device: Annotated[str, Setting("auto",
        "auto, cpu, cuda or cuda:N.", offers=("auto", "cpu", "cuda"))]
    precision: Annotated[str, Setting("fp32",
        "fp32, bf16, fp16; auto: the fastest here.", offers=("auto", *PRECISIONS))]
    experiment: Annotated[str, Setting("bserkit", "MLflow experiment.", logged=False)]
    run_name: Annotated[str | None, Setting(None, "MLflow run name.", logged=False)]
    plugins_dir: Annotated[tuple[Path, ...], Setting(None,
        "Load the plugins in this folder, files and packages, or one (also BSERKIT_PLUGINS_DIR).", metavar="PATH")]
    # fmt: on
    found_reader: bool

    @property
    def extraction(self) -> Extraction:
        """How features are made."""
        return Extraction(self.channels, self.frontend, self.backbone, self.device, self.precision)

    def components(self) -> list[Component]:
        """Return every component, in the data's order."""
        held = [value if isinstance(value, tuple) else (value,) for value in self._held().values()]
        return [one for values in held for one in values if isinstance(one, Component)]

    def flat(self) -> dict[str, str]:
        """Return every parameter once, under the names that MLflow shows."""
        rows: dict[str, Any] = {"data": self.data or DEMO_CORPUS}
        rows |= {key: value for key, value in self._held().items() if SETTINGS[key].logged}
        rows["channels"] = ",".join(one.known_as for one in self.channels)
        for one in self.components():
            several = SETTINGS[one.kind].several
            rows |= {} if several else {one.kind: one.known_as}
            prefix = f"{one.kind}.{one.known_as}" if several else one.kind
            rows |= {f"{prefix}.{key}": value for key, value in one.parameters.items()}
        return {key: spell(value) for key, value in rows.items()}

    def command(self) -> str:
        """Spell the ``bserkit run`` that does this run, with all that is not the default."""
        typed = self._held()
        words = ["bserkit", "run", *([str(typed.pop("data"))] if self.data else [])]
        if self.found_reader or not self.data:
            typed.pop("corpus")
        usual = defaults(self.backbone.reads) | {"device": resolve_device("auto")}
        for key, value in typed.items():
            if spell(value) != spell(usual.get(key)):
                words += [f"--{key}"] if value is True else [f"--{key}", spell(value)]
        return shlex.join(words)

    def to_toml(self) -> str:
        """Return a configuration file that gives this run again, every parameter spelt out."""
        import tomli_w

        document: dict[str, Any] = {}
        for key, value in self._held().items():
            if SETTINGS[key].contract:
                document[key] = [_table(one) for one in value] if isinstance(value, tuple) else _table(value)
            else:
                document[key] = value if isinstance(value, int) else spell(value)
        # What follows a table would be part of it.
        return tomli_w.dumps(dict(sorted(document.items(), key=lambda row: isinstance(row[1], dict | list))))

    def _held(self) -> dict[str, Any]:
        """Return the value of each setting that has one, as they are typed, in the data's order."""
        held = {key: getattr(self, key.replace("-", "_"), None) for key in SETTINGS}
        return {key: value for key, value in held.items() if value not in (None, ())}


#: Every setting as it is typed. Where features are kept belongs to no run, since no number depends on it.
SETTINGS: dict[str, Setting] = {
    name.replace("_", "-"): replace(hint.__metadata__[0], type=hint.__origin__)
    for name, hint in get_type_hints(Settings, include_extras=True).items()
    if hasattr(hint, "__metadata__")
} | {
    "cache": Setting(None,
        "Where features are kept (also BSERKIT_CACHE; default: the user's cache folder).", metavar="DIR", type=Path)
}  # fmt: skip


def defaults(*cases: str) -> dict[str, Any]:
    """Return every default as it would be typed, given the demonstration corpus's name or what the backbone reads."""
    found = {
        key: next((one.instead[case] for case in cases if case in one.instead), one.default)
        for key, one in SETTINGS.items()
    }
    return {key: value for key, value in found.items() if value is not None}


def read_config(path: Path) -> dict[str, Any]:
    """Read a configuration file; its relative paths begin where it lies.

    Raises:
        UsageError: the file is missing, is not TOML or holds a key that is not known.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The configuration file {path} cannot be read: {error}.") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"The configuration file {path} is not TOML: {error}.") from None
    for key in values:
        if key not in SETTINGS:
            known = ", ".join(SETTINGS)
            raise UsageError(f"{path}: there is no setting {key!r}{nearest(key, SETTINGS)}. Known: {known}.")
    return {key: SETTINGS[key].beside(key, value, path.parent) for key, value in values.items()}


def resolve(given: Mapping[str, Any], plugins: Plugins) -> Settings:
    """Turn what was given, by the command line or a configuration file, into checked settings.

    Raises:
        UsageError: something given is not known or does not fit.
    """
    corpus_name = () if given.get("data") else (DEMO_CORPUS,)
    values = defaults(*corpus_name) | dict(given)
    found = {key: one.read(key, values.get(key)) for key, one in SETTINGS.items() if not one.contract}
    seed, data = found["seed"], found["data"]
    corpus = reader_for(data, values.get("corpus"), plugins)

    def make(key: str) -> Any:
        one = SETTINGS[key]
        assert one.contract  # noqa: S101
        specs = read_specs(values[key]) if one.several else [one_spec(key, values[key])]
        made = tuple(_seeded(plugins, one.contract, spec, seed) for spec in specs)
        return made if one.several else made[0]

    if not (channels := make("channels")):
        raise UsageError("channels names no channel transform; expected one or more, such as lr,ms.")
    backbone = make("backbone")
    values = defaults(*corpus_name, backbone.reads) | dict(given)
    if "frontend" not in given and backbone.reads == "waveform":
        values["frontend"] += f":sample_rate={backbone.sample_rate}"
    frontend = make("frontend")
    _check_pair(frontend, backbone, plugins)
    device = resolve_device(str(values["device"]))
    precision = resolve_precision(str(values["precision"]), device)
    if backbone.reads == "waveform":
        if values["precision"] not in ("auto", "fp32"):
            raise UsageError(
                f"--precision {precision} does not fit backbone {backbone.name}, which reads waveforms: fp32."
            )
        if _asked(values, "finetune"):
            raise UsageError(
                f"--finetune learns from segments of equal length, but backbone {backbone.name} reads waveforms. "
                "Leave --finetune out, or choose a backbone that reads planes, such as alexnet."
            )
        precision = "fp32"
    found |= {key: make(key) for key in ("pooler", "classifier", "fusion", "protocol")}
    found |= {key: make(key) if _asked(values, key) else None for key in ("finetune", "normaliser")}
    found |= {"corpus": corpus, "channels": channels, "frontend": frontend, "backbone": backbone}
    found |= {"data": data.resolve() if data else None, "device": device, "precision": precision}
    found |= {"plugins-dir": tuple(Path.cwd() / folder for folder in found["plugins-dir"])}
    known = {key.replace("-", "_"): value for key, value in found.items() if key != "cache"}
    settings = Settings(**known, found_reader=bool(data and not values.get("corpus")))
    settings.extraction.transform_of()
    return settings


def _asked(values: Mapping[str, Any], key: str) -> bool:
    """Say whether a stage is asked for that may be left out."""
    return bool(values.get(key)) and values[key] != NONE


def reader_for(data: Path | None, named: object, plugins: Plugins) -> CorpusReader:
    """Return the reader that was named, or else the one that recognises the data; without data the demonstration's.

    Raises:
        UsageError: the name is not known or does not go with the data, it would take whole corpora for classes, or no
            reader or several recognise the data.
    """
    if data and not named:
        return find_reader(data, _readers(plugins))
    reader = plugins.make(CorpusReader, one_spec("corpus", named or DEMO_CORPUS))
    if data and reader.name == DEMO_CORPUS:
        raise UsageError(
            f"--corpus {DEMO_CORPUS} is the demonstration corpus, which bserkit makes itself, but DATA is {data}. "
            f"Leave DATA out, or leave --corpus {DEMO_CORPUS} out."
        )
    if not data and reader.name != DEMO_CORPUS:
        raise UsageError(
            f"--corpus {reader.spec} says how to read DATA, but no DATA is named. Name it, such as bserkit run PATH "
            f"--corpus {reader.spec}, or leave --corpus out for the demonstration corpus."
        )
    if data:
        check_level(data, reader, _readers(plugins))
    return reader


def _table(component: Component) -> dict[str, Any]:
    """Return a component as a TOML table, which knows no None."""
    return {"name": component.known_as} | {key: one for key, one in component.parameters.items() if one is not None}


def _check_pair(frontend: Frontend, backbone: Backbone, plugins: Plugins) -> None:
    """Refuse a frontend that does not make what the backbone reads, naming what does.

    Raises:
        UsageError: the two do not fit.
    """
    if frontend.makes != backbone.reads:
        frontends = _names(plugins, Frontend.kind, "makes", backbone.reads)
        backbones = _names(plugins, Backbone.kind, "reads", frontend.makes)
        raise UsageError(
            f"frontend {frontend.name} makes {frontend.makes}, but backbone {backbone.name} reads {backbone.reads}. "
            f"To backbone {backbone.name} fits --frontend {frontends}; to frontend {frontend.name} --backbone "
            f"{backbones}. Without --frontend the one that fits is taken."
        )
    rates = [getattr(one, "sample_rate", None) for one in (frontend, backbone)]
    if backbone.reads == "waveform" and rates[0] != rates[1]:
        raise UsageError(
            f"frontend {frontend.spec} makes a waveform of {rates[0]} Hz, but backbone {backbone.spec} reads one of "
            f"{rates[1]} Hz. Leave --frontend out, and give the backbone its sample_rate."
        )


def _names(plugins: Plugins, kind: str, attribute: str, value: str) -> str:
    """Return the components of a kind whose ``attribute`` is ``value``, to choose from."""
    return (
        " or ".join(
            name
            for name, registered in plugins.choices(kind).items()
            if getattr(registered.component, attribute) == value
        )
        or "none"
    )


def _readers(plugins: Plugins) -> list[CorpusReader]:
    """Return every reader that works without parameters, to be asked whether it recognises the data."""
    readers = []
    for name, registered in plugins.choices(CorpusReader.kind).items():
        if not any(info.is_required() for info in registered.component.model_fields.values()):
            readers.append(plugins.make(CorpusReader, Spec(name)))
    return readers


def _seeded(plugins: Plugins, contract: type[Component], spec: Spec, seed: int) -> Component:
    """Make a component, giving it the run's seed where it has one and none was given."""
    fields = plugins.find(contract.kind, spec.name).component.model_fields
    if "seed" in fields and "seed" not in spec.parameters:
        spec = Spec(spec.name, {**spec.parameters, "seed": seed})
    return plugins.make(contract, spec)
