"""A run's settings: defaults, then a configuration file, then the command line, resolved to components."""

from __future__ import annotations

import os
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args, overload

from bserkit.component import Component, Spec, read_specs
from bserkit.corpora.audio import Microphones, MonoPolicy
from bserkit.corpora.protocols import Protocol
from bserkit.corpora.reading import CorpusReader, check_level, find_reader
from bserkit.devices import resolve_device, resolve_precision
from bserkit.errors import UsageError, nearest
from bserkit.features.backbones import Backbone
from bserkit.features.channels import ChannelTransform
from bserkit.features.extraction import Extraction
from bserkit.features.finetuning import FromRun, Sgd
from bserkit.features.frontends import Frontend
from bserkit.features.pooling import Pooler
from bserkit.learning.classifiers import Classifier
from bserkit.learning.fusion import Fuser

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bserkit.plugins.registry import Plugins

#: Every setting that has a default, as it would be typed.
DEFAULTS: dict[str, Any] = {
    "channels": "lr,ms",
    "frontend": "logmel",
    "backbone": "alexnet",
    "pooler": "block-max",
    "classifier": "linear-svm",
    "fusion": "two-stage",
    "protocol": "loso",
    "device": "auto",
    "precision": "fp32",
    "seed": 0,
    "mono": "refuse",
    "microphones": "refuse",
    "allow-speaker-overlap": False,
    "experiment": "bserkit",
}
#: The defaults that differ by what the backbone reads. Of a waveform there is one segment, the whole utterance: blocks
#: of it would repeat it.
DEFAULTS_OF_INPUT: dict[str, dict[str, str]] = {"waveform": {"frontend": "waveform", "pooler": "global-avg"}}
#: What the demonstration run takes where nothing else is asked for: no download, and fast.
DEMO_BACKBONE = "alexnet:weights=random"
#: The reader of the demonstration corpus, which is made where it is needed: it has no place to be named.
DEMO_CORPUS = "demo"
_TEXTS = ("data", "device", "precision", "mono", "experiment", "run-name", "plugins-dir", "cache")
_KNOWN = (*DEFAULTS, "data", "corpus", "finetune", "run-name", "plugins-dir", "cache")


@dataclass(frozen=True)
class Settings:
    """Everything that a run depends on, checked.

    Attributes:
        data: the corpus's root; None for the demonstration corpus.
        found_reader: whether the reader was found from the data rather than named.
        finetune: how each fold's networks are fine-tuned; None leaves the backbone as it is.
        allow_speaker_overlap: whether folds with a speaker on both sides are evaluated, and the run tagged.
    """

    data: Path | None
    corpus: CorpusReader | None
    found_reader: bool
    extraction: Extraction
    finetune: Sgd | FromRun | None
    pooler: Pooler
    classifier: Classifier
    fusion: Fuser
    protocol: Protocol
    seed: int
    mono: MonoPolicy
    microphones: Microphones
    allow_speaker_overlap: bool
    experiment: str
    run_name: str | None
    plugins_dir: str | None

    @property
    def named_data(self) -> Path | None:
        """The corpus's root as a command or a file names it: not at all for the demonstration corpus."""
        return None if self.corpus and self.corpus.name == DEMO_CORPUS else self.data

    def components(self) -> list[Component]:
        """Return every component, in the data's order."""
        extraction = self.extraction
        every = (
            self.corpus, *extraction.transforms, extraction.frontend, extraction.backbone, self.finetune,
            self.pooler, self.classifier, self.fusion, self.protocol,
        )  # fmt: skip
        return [component for component in every if component is not None]

    def flat(self) -> dict[str, str]:
        """Return every parameter once, under the names that MLflow shows."""
        rows: dict[str, Any] = {"data": self.named_data or "demonstration corpus"}
        for component in self.components():
            several = component.kind == ChannelTransform.kind
            rows[component.kind] = (
                f"{rows[component.kind]},{component.name}" if component.kind in rows else component.name
            )
            prefix = f"{component.kind}.{component.name}" if several else component.kind
            rows |= {f"{prefix}.{key}": value for key, value in component.parameters.items()}
        rows |= {"device": self.extraction.device, "precision": self.extraction.precision}
        rows |= {"seed": self.seed, "mono": self.mono, "microphones": spell_microphones(self.microphones)}
        rows |= {"allow-speaker-overlap": self.allow_speaker_overlap}
        rows |= {"plugins-dir": self.plugins_dir} if self.plugins_dir else {}
        return {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in rows.items()}

    def command(self) -> str:
        """Spell the ``bserkit run`` that does this run, with all that is not the default."""
        device, precision = self.extraction.device, self.extraction.precision
        alone = [component for component in self.components() if component.kind not in {"corpus", "channels"}]
        typed = {
            "corpus": self.corpus.spec if self.corpus and self.named_data and not self.found_reader else None,
            "mono": self.mono,
            "microphones": spell_microphones(self.microphones),
            "channels": ",".join(transform.spec for transform in self.extraction.transforms),
            **{component.kind: component.spec for component in alone},
            "seed": self.seed,
            "device": device if device != resolve_device("auto") else None,
            "precision": precision,
            "experiment": self.experiment,
            "run-name": self.run_name,
            "plugins-dir": self.plugins_dir,
        }
        defaults = DEFAULTS | DEFAULTS_OF_INPUT.get(self.extraction.backbone.reads, {})
        words = ["bserkit", "run", *([str(self.named_data)] if self.named_data else [])]
        for key, value in typed.items():
            if value is not None and value != defaults.get(key):
                words += [f"--{key}", str(value)]
        words += ["--allow-speaker-overlap"] if self.allow_speaker_overlap else []
        return shlex.join(words)

    def to_toml(self) -> str:
        """Return a configuration file that gives this run again, every parameter spelt out."""
        import tomli_w

        document: dict[str, Any] = {"data": str(self.named_data)} if self.named_data else {}
        document |= {"seed": self.seed, "mono": self.mono, "experiment": self.experiment}
        document["microphones"] = spell_microphones(self.microphones)
        document |= {"device": self.extraction.device, "precision": self.extraction.precision}
        document["allow-speaker-overlap"] = self.allow_speaker_overlap
        if self.run_name:
            document["run-name"] = self.run_name
        if self.plugins_dir:
            document["plugins-dir"] = self.plugins_dir
        for component in self.components():
            table = {"name": component.name} | {
                key: value for key, value in component.parameters.items() if value is not None
            }
            if component.kind == ChannelTransform.kind:
                document.setdefault(component.kind, []).append(table)
            else:
                document[component.kind] = table
        return tomli_w.dumps(document)


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
        if key not in _KNOWN:
            raise UsageError(f"{path}: there is no setting {key!r}{nearest(key, _KNOWN)}. Known: {', '.join(_KNOWN)}.")
    for key in ("data", "cache"):
        if isinstance(values.get(key), str):
            values[key] = str(path.parent / Path(values[key]).expanduser())
    if isinstance(values.get("plugins-dir"), str):
        values["plugins-dir"] = _absolute_folders(values["plugins-dir"], path.parent)
    for key, parameter in (("backbone", "weights"), ("protocol", "path")):
        if key in values:
            values[key] = _with_file_beside(path, one_spec(key, values[key]), parameter)
    return values


def resolve(given: Mapping[str, Any], plugins: Plugins) -> Settings:
    """Turn what was given, by the command line or a configuration file, into checked settings.

    Raises:
        UsageError: something given is not known or does not fit.
    """
    for key in _TEXTS:
        if not isinstance(given.get(key), str | Path | None):
            raise UsageError(f"{key} is {given[key]!r}; expected text.")
    data = Path(given["data"]).expanduser() if given.get("data") else None
    defaults = DEFAULTS | ({"backbone": DEMO_BACKBONE} if data is None else {})
    values = defaults | dict(given)
    seed = _integer("seed", values["seed"])
    if values["mono"] not in get_args(MonoPolicy):
        raise UsageError(f"--mono {values['mono']} is not known; expected {', '.join(get_args(MonoPolicy))}.")
    if not isinstance(values["allow-speaker-overlap"], bool):
        raise UsageError(f"allow-speaker-overlap is {values['allow-speaker-overlap']!r}; expected true or false.")
    corpus = reader_for(data, values.get("corpus"), plugins)

    def make(contract: type[Any], key: str) -> Any:
        return _seeded(plugins, contract, one_spec(key, values[key]), seed)

    if not (specs := read_specs(values["channels"])):
        raise UsageError("channels names no channel transform; expected one or more, such as lr,ms.")
    transforms = [cast("ChannelTransform", _seeded(plugins, ChannelTransform, spec, seed)) for spec in specs]
    backbone = make(Backbone, "backbone")
    values = defaults | DEFAULTS_OF_INPUT.get(backbone.reads, {}) | dict(given)
    if "frontend" not in given and backbone.reads == "waveform":
        values["frontend"] += f":sample_rate={backbone.sample_rate}"
    frontend = make(Frontend, "frontend")
    _check_pair(frontend, backbone, plugins)
    device = resolve_device(str(values["device"]))
    precision = resolve_precision(str(values["precision"]), device)
    if backbone.reads == "waveform":
        if values["precision"] not in ("auto", "fp32"):
            raise UsageError(
                f"--precision {precision} does not fit backbone {backbone.name}, which reads waveforms: fp32."
            )
        if values.get("finetune"):
            raise UsageError(
                f"--finetune learns from segments of equal length, but backbone {backbone.name} reads whole waveforms. "
                "Leave --finetune out, or choose a backbone that reads planes, such as alexnet."
            )
        precision = "fp32"
    extraction = Extraction(tuple(transforms), frontend, backbone, device, precision)
    extraction.transform_of()
    return Settings(
        data=data.resolve() if data else None,
        corpus=corpus,
        found_reader=not values.get("corpus"),
        extraction=extraction,
        finetune=make(Sgd, "finetune") if values.get("finetune") else None,
        pooler=make(Pooler, "pooler"),
        classifier=make(Classifier, "classifier"),
        fusion=make(Fuser, "fusion"),
        protocol=make(Protocol, "protocol"),
        seed=seed,
        mono=values["mono"],
        microphones=read_microphones(values["microphones"]),
        allow_speaker_overlap=values["allow-speaker-overlap"],
        experiment=str(values["experiment"]),
        run_name=values.get("run-name"),
        plugins_dir=_absolute_folders(values.get("plugins-dir"), Path.cwd()),
    )


@overload
def reader_for(data: Path, named: object, plugins: Plugins) -> CorpusReader: ...
@overload
def reader_for(data: Path | None, named: object, plugins: Plugins) -> CorpusReader | None: ...
def reader_for(data: Path | None, named: object, plugins: Plugins) -> CorpusReader | None:
    """Return the reader that was named, or else the one that recognises the data.

    Raises:
        UsageError: the name is not known, it would take whole corpora for classes, or no reader or several recognise
            the data.
    """
    if named:
        reader = plugins.make(CorpusReader, one_spec("corpus", named))
        if data:
            check_level(data, reader, _readers(plugins))
        return reader
    return find_reader(data, _readers(plugins)) if data else None


def read_microphones(value: object) -> Microphones:
    """Read which channels are left and right: ``1,3``, or what to do with recordings of more than two channels.

    Raises:
        UsageError: it is neither two different numbers from 1 on, nor refuse or skip.
    """
    if value in ("refuse", "skip"):
        return cast("Microphones", value)
    numbers = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    found = [int(str(number)) for number in numbers if str(number).strip().isdecimal()]
    if len(numbers) != 2 or len(found) != 2 or min(found) < 1 or found[0] == found[1]:
        raise UsageError(
            f"--microphones {value} is not known; expected the numbers of two channels, counted from 1, such as 1,3 "
            "for left and right, or refuse or skip."
        )
    return found[0], found[1]


def spell_microphones(microphones: Microphones) -> str:
    """Spell what ``read_microphones`` reads.

    >>> spell_microphones((1, 3))
    '1,3'
    """
    return microphones if isinstance(microphones, str) else ",".join(map(str, microphones))


def one_spec(key: str, value: object) -> Spec:
    """Read the one component that a setting names.

    Raises:
        UsageError: it names several.
    """
    specs = read_specs(value)
    if len(specs) != 1:
        raise UsageError(f"{key} takes one component, but {value!r} names {len(specs)}.")
    return specs[0]


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
            for name, registered in plugins.of_kind(kind).items()
            if getattr(registered[0].component, attribute) == value
        )
        or "none"
    )


def _with_file_beside(path: Path, spec: Spec, parameter: str) -> dict[str, Any]:
    """Return a component's table with the relative file that a parameter names taken to begin at the configuration."""
    table = {"name": spec.name, **spec.parameters}
    if isinstance(file := table.get(parameter), str) and file not in {"imagenet", "random"}:
        table[parameter] = str(path.parent / Path(file).expanduser())
    return table


def _absolute_folders(folders: str | None, base: Path) -> str | None:
    """Return a list of folders, as PATH is one, with relative ones taken to begin at ``base``."""
    if not folders:
        return None
    return os.pathsep.join(str(base / Path(folder).expanduser()) for folder in folders.split(os.pathsep))


def _readers(plugins: Plugins) -> list[CorpusReader]:
    """Return every reader that works without parameters, to be asked whether it recognises the data."""
    readers = []
    for name, registered in plugins.of_kind(CorpusReader.kind).items():
        fields = registered[0].component.model_fields.values()
        if len(registered) == 1 and not any(info.is_required() for info in fields):
            readers.append(plugins.make(CorpusReader, Spec(name)))
    return readers


def _seeded(plugins: Plugins, contract: type[Component], spec: Spec, seed: int) -> Component:
    """Make a component, giving it the run's seed where it has one and none was given."""
    fields = plugins.find(contract.kind, spec.name).component.model_fields
    if "seed" in fields and "seed" not in spec.parameters:
        spec = Spec(spec.name, {**spec.parameters, "seed": seed})
    return plugins.make(contract, spec)


def _integer(key: str, value: object) -> int:
    try:
        return int(str(value))
    except ValueError:
        raise UsageError(f"{key} is {value!r}; expected a whole number.") from None
