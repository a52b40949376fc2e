"""What a component is known by: its code by meaning, its distribution's version, the content of the files it names."""

import importlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import soundfile
from pydantic import BaseModel, FilePath

from bserkit import Backbone, ChannelTransform, Pooler, UsageError, Utterance
from bserkit.component import identity
from bserkit.corpora.audio import content_digest
from bserkit.features.extraction import Extraction, extract, pending
from bserkit.features.finetuning import Training
from bserkit.identity import meaning
from bserkit.identity.content import file_digest
from bserkit.identity.meaning import code_of
from bserkit.identity.modules import Place, forget
from bserkit.plugins.builtin.backbones import AlexNet
from bserkit.plugins.builtin.channels import Mono
from bserkit.plugins.builtin.frontends import LogMel
from bserkit.plugins.registry import load_plugins
from bserkit.store import FeatureStore
from bserkit.workspace import Workspace

NETS = """
from bserkit import Pooler
from .sizes import scaled

class Acme(Pooler):
    name = "acme"

    def pool(self, segments):
        return scaled(segments[0])
"""
SIZES = "SIZE = 2\n\ndef scaled(values):\n    return SIZE * values\n"
PACKAGE = {"__init__": "", "nets": NETS, "sizes": SIZES, "unrelated": "X = 1\n"}


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder on Python's path, whose modules are forgotten at the end."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield folder
    forget(folder)


def write(folder, files):
    for name, text in files.items():
        path = folder / (name if "." in name else f"{name}.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def code(site, files, module="acme.nets", name="Acme", package="acme"):
    """Write a package, import it anew and return the code of its class."""
    write(site / package, files)
    forget(site)
    return code_of(getattr(importlib.import_module(module), name))


def differs(site, files, **changes):
    before = code(site, files)
    return code(site, files | changes) != before


@pytest.mark.parametrize(
    "sizes",
    [
        "# A comment.\n\n\n" + SIZES,
        '"""A docstring."""\n' + SIZES.replace("    return", '    """Another."""\n    return'),
        SIZES.replace("SIZE * values", "(SIZE\n        * values)").replace("SIZE = 2", "SIZE=2  # pixels"),
    ],
    ids=["comment", "docstring", "layout"],
)
def test_what_does_nothing_changes_no_key(site, sizes):
    assert not differs(site, PACKAGE, sizes=sizes)


def test_a_changed_helper_constant_changes_the_key(site):
    assert differs(site, PACKAGE, sizes=SIZES.replace("2", "3"))
    assert differs(site, PACKAGE, sizes=SIZES.replace("2", "2.0"))


def test_docstrings_count_where_code_reads_them(site):
    files = PACKAGE | {"sizes": '"""1"""\n' + SIZES.replace("SIZE = 2", "SIZE = int(__doc__)")}
    assert differs(site, files, sizes=files["sizes"].replace("1", "7"))


def test_a_module_that_is_not_imported_changes_no_key(site):
    assert not differs(site, PACKAGE, unrelated="X = 2\n")


@pytest.mark.parametrize(
    "line",
    [
        "import acme.sizes as sizes; scaled = sizes.scaled",
        "import acme.sizes; scaled = acme.sizes.scaled",
        "from acme.sizes import scaled",
        "from acme import sizes; scaled = sizes.scaled",
        "from . import sizes; scaled = sizes.scaled",
        "from .sizes import *",
        "from .between import scaled",
        "import importlib; scaled = importlib.import_module('acme.sizes').scaled",
        "import importlib; scaled = importlib.import_module('.sizes', __package__).scaled",
        "import importlib; scaled = importlib.import_module('.siz' + 'es', __package__).scaled",
        "scaled = __import__('acme.sizes', fromlist=['x']).scaled",
        "def scaled(values):\n    from .sizes import scaled as inner\n    return inner(values)",
        "try:\n    from .sizes import scaled\nexcept ImportError:\n    scaled = abs",
        "import sys\nif sys.maxsize:\n    from .sizes import scaled",
    ],
)
def test_a_helper_counts_however_it_is_imported(site, line):
    files = PACKAGE | {
        "nets": NETS.replace("from .sizes import scaled", line),
        "between": "from .sizes import scaled\n",
    }
    assert differs(site, files, sizes=SIZES.replace("2", "3"))


def test_the_packages_around_a_module_count(site):
    assert differs(site, PACKAGE, __init__="import os; os.environ['ACME'] = '1'\n")


def test_helpers_may_import_one_another(site):
    files = PACKAGE | {"sizes": SIZES + "from . import nets\n"}
    assert differs(site, files, sizes=files["sizes"].replace("2", "3"))


def test_what_only_type_checkers_read_changes_no_key(site):
    guarded = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .unrelated import X\n" + SIZES
    files = PACKAGE | {"sizes": guarded}
    assert not differs(site, files, unrelated="X = 2\n")


def test_a_helper_that_is_missing_or_no_python_counts(site):
    nets = NETS.replace("def pool", "def more(self):\n        from . import broken\n\n    def pool")
    found = [code(site, PACKAGE | {"nets": nets} | more) for more in ({}, {"broken": "def ("}, {"broken": "def )"})]
    assert len({one.digest for one in found}) == 3


def test_code_that_nests_too_deep_counts_by_its_bytes(site):
    nets = NETS.replace("def pool", "def more(self):\n        from . import deep\n\n    def pool")
    files = PACKAGE | {"nets": nets, "deep": f"X = {'1 + ' * 3000}1\n"}
    assert differs(site, files, deep=files["deep"] + "# Even a comment.\n")


def test_compiled_helpers_count_by_their_bytes(site):
    suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
    nets = NETS.replace("def pool", "def more(self):\n        from . import fast\n\n    def pool")
    write(site / "acme", {f"fast{suffix}": "one"})
    before = code(site, PACKAGE | {"nets": nets})
    write(site / "acme", {f"fast{suffix}": "two"})
    assert code(site, PACKAGE | {"nets": nets}) != before


def test_namespace_packages_have_helpers_too(site):
    files = {name: text for name, text in PACKAGE.items() if name != "__init__"}
    assert differs(site, files, sizes=SIZES.replace("2", "3"))


def test_a_base_in_another_module_counts(site):
    base = (
        "from bserkit import Pooler\n\nclass Base(Pooler):\n    def pool(self, segments):\n        return segments[0]\n"
    )
    nets = "from acme.bases import Base\n\nclass Acme(Base):\n    name = 'acme'\n"
    files = {"__init__": "", "bases": base, "nets": nets}
    assert differs(site, files, bases=base.replace("[0]", "[-1]"))


def test_a_base_of_an_installed_distribution_counts(tmp_path, site, monkeypatch):
    packages = site / "site-packages"
    base = "from bserkit import Pooler\nfrom .sizes import scaled\n\nclass Base(Pooler):\n"
    base += "    def pool(self, segments):\n        return scaled(segments[0])\n"
    write(packages / "other", {"__init__": "", "bases": base, "sizes": SIZES})
    dist_info(packages, "1.0", "other")
    monkeypatch.syspath_prepend(str(packages))
    files = {"__init__": "", "nets": "from other.bases import Base\n\nclass Acme(Base):\n    name = 'acme'\n"}
    before = code(site, files)
    assert before.versions["other"] == "1.0"
    write(packages / "other", {"sizes": SIZES.replace("2", "3")})
    assert code(site, files) != before


def dist_info(folder, version, name="acme", **files):
    info = folder / f"{name.replace('-', '_')}-1.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    for file, text in files.items():
        (info / f"{file}.txt").write_text(text)


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("acme", {}),
        ("emotions", {"top_level": "acme\n"}),
        ("emotions-two", {"entry_points": "[bserkit]\nacme = acme.nets\n"}),
    ],
    ids=["same name", "top_level.txt", "entry point"],
)
def test_an_upgraded_distribution_changes_the_key(site, name, files):
    dist_info(site, "1.0", name, **files)
    before = code(site, PACKAGE)
    assert before.versions[name] == "1.0"
    dist_info(site, "1.1", name, **files)
    os.utime(site, ns=(0, 0))
    after = code(site, PACKAGE)
    assert after.versions[name] == "1.1"
    assert after.digest == before.digest


def test_a_library_counts_by_its_version(site):
    found = code(site, PACKAGE | {"sizes": "import numpy as np\nimport json\n" + SIZES})
    assert found.versions == {"numpy": np.__version__}


HELPED = """
import os, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import torch
from {helper} import scaled
from bserkit import Backbone, hookimpl

class Helped(Backbone):
    name = "helped"

    def weights_digest(self):
        return "none"

    def feature_size(self):
        return 3

    def load(self, device):
        class Means(torch.nn.Module):
            def forward(self, planes):
                return scaled(planes.mean(dim=(2, 3)))
        return Means()

@hookimpl
def bserkit_backbones():
    return [Helped]
"""


@pytest.mark.parametrize(
    ("helper", "file"), [("_helper", "_helper.py"), ("_lib", "_lib/__init__.py"), ("_lib.sizes", "_lib/sizes.py")]
)
def test_features_follow_a_helper_beside_a_single_file(tmp_path, monkeypatch, helper, file):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    folder = tmp_path / "plugins"
    write(folder, {"helped.py": HELPED.format(helper=helper), "_lib/__init__.py": "", file: SIZES})
    path = tmp_path / "one.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, (16000, 2)), 16000)
    utterance, store = Utterance(path, "a", "s"), FeatureStore(tmp_path / "store")

    def features():
        backbone = load_plugins([folder]).make(Backbone, "helped")
        way = Extraction((Mono(),), LogMel(), backbone, "cpu", "fp32")
        digest = content_digest(utterance)
        count = extract(pending([utterance], [digest], way, store), Workspace(store))
        return count, store.read_features(way.recipes()["mono"], digest)[0]

    count, before = features()
    assert count
    assert features()[0] == 0
    write(folder, {file: "# Said better.\n" + SIZES})
    assert features()[0] == 0
    write(folder, {file: SIZES.replace("2", "6")})
    count, after = features()
    assert count
    np.testing.assert_allclose(after, 3 * before, rtol=1e-5)
    forget(folder)


def test_a_plugin_moved_to_another_folder_is_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    found = []
    for name in ("one", "two"):
        write(tmp_path / name, {"helped.py": HELPED.format(helper="_helper"), "_helper.py": SIZES})
        found.append(identity(load_plugins([tmp_path / name]).make(Backbone, "helped")))
        forget(tmp_path)
    assert found[0] == found[1]


def test_the_code_that_was_loaded_is_what_counts(tmp_path):
    write(tmp_path, {"acme.py": NETS.replace("from .sizes import scaled", "scaled = abs")})
    (tmp_path / "acme.py").write_text((tmp_path / "acme.py").read_text() + HOOK)
    made = load_plugins([tmp_path]).make(Pooler, "acme")
    before = identity(made)
    (tmp_path / "acme.py").write_text((tmp_path / "acme.py").read_text().replace("abs", "len"))
    assert identity(made) == before
    assert identity(load_plugins([tmp_path]).make(Pooler, "acme")) != before


HOOK = "\nfrom bserkit import hookimpl\n\n@hookimpl\ndef bserkit_poolers():\n    return [Acme]\n"


def typed(text, name="Typed", **values):
    """Make a class as a notebook does, where no file has it."""
    space = {"__name__": "typed_in", "Pooler": Pooler} | values
    exec(textwrap.dedent(text), space)  # noqa: S102
    return space[name]


TYPED = """
SIZE = 2

def scaled(values):
    return SIZE * values

class Typed(Pooler):
    name = "typed"

    def pool(self, segments):
        return [scaled(one) for one in segments]
"""


def test_a_class_without_a_file_counts_by_what_it_does():
    before = code_of(typed(TYPED))
    assert code_of(typed("# Nothing.\n\n" + TYPED)) == before
    assert code_of(typed(TYPED.replace("= 2", "= 3"))) != before
    assert code_of(typed(TYPED.replace("SIZE *", "SIZE +"))) != before
    assert code_of(typed(TYPED.replace("[scaled", "[3 * scaled"))) != before


def test_a_script_is_known_by_one_code_imported_or_run(tmp_path):
    ask = "from bserkit.identity.meaning import code_of\nprint(code_of(Typed).digest)\n"
    write(tmp_path, {"script": f"from bserkit import Pooler\n{TYPED}\n{ask}"})
    said = [
        subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        for words in (["script.py"], ["-c", "import script"])
    ]
    assert len(said[0]) == 65
    assert said[0] == said[1]


class Tables(Pooler):
    name = "tables"
    table: Path | None = None
    many: tuple[Path, ...] = ()
    either: str | Path = ""
    checked: FilePath | None = None
    by_name: dict[str, Path] | None = None

    def pool(self, segments):
        return segments[0]


class Inner(BaseModel):
    table: Path


class Outer(Pooler):
    name = "outer"
    inner: Inner
    base: Tables = Tables()

    def pool(self, segments):
        return segments[0]


@pytest.mark.parametrize(
    "make",
    [
        lambda path: Tables(table=path),
        lambda path: Tables(table=str(path)),
        lambda path: Tables(many=(path,)),
        lambda path: Tables(either=str(path)),
        lambda path: Tables(checked=path),
        lambda path: Tables(by_name={"a": path}),
        lambda path: Outer(inner=Inner(table=path)),
        lambda path: Outer(inner=Inner(table=Path(__file__)), base=Tables(table=path)),
        lambda path: Tables(table=path.parent),
    ],
    ids=["path", "text", "list", "either", "checked", "dictionary", "nested", "component", "folder"],
)
def test_a_file_counts_by_its_content(tmp_path, make):
    one, other = tmp_path / "one" / "table.csv", tmp_path / "other" / "table.csv"
    for path in (one, other):
        path.parent.mkdir()
        path.write_text("1")
    before = identity(make(one))
    assert identity(make(other)) == before
    one.write_text("2")
    after = identity(make(one))
    assert after != before
    assert str(tmp_path) not in str(after)


def test_names_and_files_of_a_folder_count(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_text("1")
    before = identity(Tables(table=tmp_path))
    (tmp_path / "a" / "b").rename(tmp_path / "a" / "c")
    assert identity(Tables(table=tmp_path)) != before


def test_a_named_file_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(UsageError, match=r"^pooler tables: table=.*nowhere\.csv cannot be read: No such file"):
        identity(Tables(table=tmp_path / "nowhere.csv"))


def test_a_backbones_own_recipe_names_files_by_content(tmp_path):
    class Reads(Backbone):
        name = "reads"
        table: Path
        loud: bool = False

        def weights_digest(self):
            return "none"

        def recipe(self):
            return {"table": self.parameters["table"]}

        def feature_size(self):
            return 1

        def load(self, device):
            raise AssertionError

    path = tmp_path / "table"
    path.write_text("1")
    way = Extraction((Mono(),), LogMel(), Reads(table=path), "cpu", "fp32")
    before = way.recipes()["mono"]["backbone"]["parameters"]
    path.write_text("2")
    after = way.recipes()["mono"]["backbone"]["parameters"]
    assert before.keys() == {"table"}
    assert before != after


def test_a_file_that_changes_between_is_read_anew(tmp_path):
    path = tmp_path / "file"
    found = set()
    for text in "abcab":
        path.write_text(text)
        os.utime(path, (0, 0))
        found.add(file_digest(path))
    assert len(found) == 3


@pytest.fixture
def edited(monkeypatch):
    """Have this package's code read as if a file of it were edited."""
    plain = Place.content

    def clear():
        meaning._own_source.cache_clear()
        code_of.cache_clear()
        meaning.meaning.cache_clear()

    def edit(module, old, new):
        def content(place):
            found = plain(place)
            if place.name == module:
                assert old.encode() in found
                return found.replace(old.encode(), new.encode())
            return found

        monkeypatch.setattr(Place, "content", content)
        clear()

    yield edit
    monkeypatch.undo()
    clear()


def alexnet():
    return code_of(AlexNet)


def logmel():
    return code_of(LogMel)


def learning():
    return meaning.meaning("bserkit.features.training._learn", Training)


def measuring():
    from bserkit.corpora.audit.audit import _code

    _code.cache_clear()
    return _code()


def extraction():
    return Extraction((Mono(),), LogMel(), AlexNet(weights="random"), "cpu", "fp32").recipes()["mono"]["extraction"]


@pytest.mark.parametrize(
    ("named", "module", "old", "new"),
    [
        (alexnet, "bserkit.plugins.builtin.networks", "planes.clamp(-3, 3)", "planes.clamp(-2, 2)"),
        (alexnet, "bserkit.plugins.builtin.backbones", "return 227", "return 224"),
        (logmel, "bserkit.features.frontends", "yield self.segments(", "yield from self.segments("),
        (learning, "bserkit.features.training", "self.dropout(self.embedding(planes))", "self.embedding(planes)"),
        (learning, "bserkit.features.finetuning", "best, found = float", "found, best = [], float"),
        (measuring, "bserkit.corpora.audit.measuring", "_DELAY_STEP = 8192", "_DELAY_STEP = 4096"),
        (measuring, "bserkit.corpora.audit.near_duplicates", "_OVERLAP = 64", "_OVERLAP = 65"),
        (measuring, "bserkit.corpora.decoding", 'dtype="float32"', 'dtype="float64"'),
        (extraction, "bserkit.features.batches", '{"cpu": 64', '{"cpu": 32'),
        (extraction, "bserkit.corpora.audio", "round(utterance.start", "int(utterance.start"),
    ],
)
def test_a_built_in_is_known_by_all_the_code_it_uses(edited, named, module, old, new):
    before = named()
    edited(module, old, new)
    assert named() != before


@pytest.mark.parametrize(
    ("named", "module", "old", "new"),
    [
        (alexnet, "bserkit.plugins.builtin.networks", "# ", "# Said better: "),
        (alexnet, "bserkit.plugins.builtin.backbones", "there is no weights file at", "no file is at"),
        (alexnet, "bserkit.plugins.builtin.backbones", "of the initial values where", "of the values where"),
        (logmel, "bserkit.plugins.builtin.frontends", "class Waveform(", "X = 1\n\nclass Waveform("),
        (learning, "bserkit.features.training", "After every epoch", "After each epoch"),
        (learning, "bserkit.features.training", "# A second process", "# Another process"),
        (learning, "bserkit.features.training", "so freeze=conv leaves nothing", "and freeze=conv leaves nothing"),
        (measuring, "bserkit.corpora.audit.audit", "nothing was found that could fool", "nothing could fool"),
        (measuring, "bserkit.corpora.audit.audit", "_TOLD = 200", "_TOLD = 100"),
        (extraction, "bserkit.corpora.audio", "it is silent throughout", "it is silent"),
        (extraction, "bserkit.features.contracts", "made values that are not numbers", "made no numbers"),
    ],
)
def test_words_and_unused_code_change_no_key(edited, named, module, old, new):
    before = named()
    edited(module, old, new)
    assert named() == before


def test_looking_at_code_imports_nothing():
    script = "import sys, bserkit.identity.meaning as m; m.meaning('bserkit.features.training._learn')\n"
    script += "from bserkit.plugins.builtin.backbones import AlexNet; m.code_of(AlexNet); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_recipe_stays_readable(tmp_path):
    recipe = Extraction((Mono(),), LogMel(), AlexNet(weights="random"), "cpu", "fp32").recipes()["mono"]
    assert recipe["backbone"]["name"] == "alexnet"
    assert recipe["backbone"]["versions"].keys() == {"torch", "torchvision"}
    assert recipe["transform"]["parameters"] == {}
    assert issubclass(Mono, ChannelTransform)
