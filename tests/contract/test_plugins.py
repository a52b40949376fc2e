import os
import pickle
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bserkit import (
    Fuser,
    Pooler,
    UsageError,
)
from bserkit.cli import main
from bserkit.component import identity
from bserkit.experiments.settings import read_config, resolve
from bserkit.identity.modules import forget
from bserkit.plugins import hooks, importing
from bserkit.plugins.registry import CONTRACTS, KINDS, load_plugins

HOOKS = sorted(name for name in vars(hooks) if name.startswith("bserkit_"))

POOLER = """
from bserkit import Pooler, hookimpl

class First(Pooler):
    '''The first segment.'''
    name = "NAME"
    scale: float = 1.0

    def pool(self, segments):
        return self.scale * segments[0]

@hookimpl
def bserkit_poolers():
    return [First]
"""


def pooler(name):
    return POOLER.replace("NAME", name)


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for stem, text in files.items():
        (folder / f"{stem}.py").write_text(textwrap.dedent(text))
    return folder


def names(plugins, source):
    return [one.component.name for one in plugins.registered if one.source.name == source]


def reasons(plugins, source):
    return [failure.reason for failure in plugins.failures if failure.source.name == source]


def test_kinds_but_protocol_and_finetune_have_hooks():
    assert set(HOOKS) == set(CONTRACTS)
    assert set(KINDS) == {contract.kind for contract in CONTRACTS.values()} | {"protocol", "finetune"}


def test_file_plugin_is_named_with_place_and_digest(tmp_path):
    plugins = load_plugins([write(tmp_path, mine=pooler("mine-first"))])
    made = plugins.make(Pooler, "mine-first:scale=2")
    assert made.pool(np.array([[1.0, 2.0], [3.0, 4.0]])).tolist() == [2.0, 4.0]
    source = plugins.source_of(made)
    assert (source.name, source.location) == ("mine", str((tmp_path / "mine.py").resolve()))
    assert re.fullmatch(r"[0-9a-f]{12}", source.version)
    (tmp_path / "mine.py").write_text(pooler("mine-first") + "\n")
    assert load_plugins([tmp_path]).find("pooler", "mine-first").source.version != source.version


def test_one_file_may_add_components_of_several_kinds(tmp_path):
    both = pooler("both-first") + textwrap.dedent("""
        from bserkit import ChannelTransform

        class Left(ChannelTransform):
            name = "both-left"
            outputs = ("left",)

            def transform(self, stereo):
                return stereo[:1]

        @hookimpl
        def bserkit_channels():
            return [Left]
        """)
    folders = [write(tmp_path / "one", both=both), write(tmp_path / "two", second=pooler("second-first"))]
    plugins = load_plugins(folders)
    assert sorted(names(plugins, "both")) == ["both-first", "both-left"]
    assert names(plugins, "second") == ["second-first"]


def test_same_file_name_in_two_folders_is_two_plugins(tmp_path):
    folders = [write(tmp_path / "one", twin=pooler("twin-one")), write(tmp_path / "two", twin=pooler("twin-two"))]
    plugins = load_plugins(folders)
    assert reasons(plugins, "twin") == []
    for name in ("twin-one", "twin-two"):
        component = plugins.make(Pooler, name)
        assert pickle.loads(pickle.dumps(component)) == component  # noqa: S301


def test_a_component_of_a_plugin_file_pickles(tmp_path):
    component = load_plugins([write(tmp_path, keeper=pooler("keeper-first"))]).make(Pooler, "keeper-first:scale=3")
    again = pickle.loads(pickle.dumps(component))  # noqa: S301
    assert again == component
    assert again.scale == 3


def test_files_with_leading_underscore_are_no_plugins(tmp_path):
    plugins = load_plugins([write(tmp_path, _helper="raise RuntimeError", __init__="raise RuntimeError")])
    assert plugins.failures == ()


SPLIT = {
    "__init__": "from .hooks import bserkit_poolers\n",
    "hooks": "from .sizes import SCALE\n" + POOLER.replace("NAME", "packed").replace("1.0", "SCALE"),
    "sizes": "SCALE = 2.0\n",
}


def test_a_package_in_the_folder_is_a_plugin(tmp_path):
    found = []
    for place in ("one", "two"):
        write(tmp_path / place / "band", **SPLIT)
        for named in (tmp_path / place, tmp_path / place / "band"):
            plugins = load_plugins([named])
            assert plugins.failures == ()
            made = plugins.make(Pooler, "band/packed")
            assert made.scale == 2
            assert pickle.loads(pickle.dumps(made)) == made  # noqa: S301
            found.append((identity(made), plugins.source_of(made).version))
    assert all(one == found[0] for one in found)
    # Of another length: Python keeps compiled code by a file's size and the second in which it was written.
    write(tmp_path / "two" / "band", sizes="SCALE = 3.00\n")
    made = load_plugins([tmp_path / "two"]).make(Pooler, "packed")
    assert made.scale == 3
    assert identity(made)["code"] != found[0][0]["code"]


def test_a_broken_package_is_reported_and_skipped(tmp_path):
    write(tmp_path / "shaky", **SPLIT | {"sizes": "1 / 0"})
    plugins = load_plugins([write(tmp_path, fine=pooler("fine-first"))])
    assert reasons(plugins, "shaky") == ["ZeroDivisionError: division by zero"]
    assert not [name for name in sys.modules if "plugin_shaky_" in name]
    assert plugins.make(Pooler, "fine-first")


HELPED = POOLER.replace("NAME", "helped").replace("1.0", "SCALE")


def test_a_file_may_import_those_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = write(tmp_path, helped="from _scale import SCALE\n" + HELPED, _scale="from _deep import SCALE\n")
    write(folder, _deep="SCALE = 5.0\n")
    for named in (folder, folder / "helped.py"):
        assert load_plugins([named]).make(Pooler, "helped").scale == 5
    assert [path.name for path in importing.files_of(folder / "helped.py")] == ["helped.py", "_scale.py", "_deep.py"]
    assert sys.path[-1] == str(folder)
    forget(folder)


def test_the_files_of_what_was_used_are_known(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    one = write(tmp_path / "one", helped="from _kept import SCALE\n" + HELPED, _kept="SCALE = 5.0\n", twin=pooler("a"))
    write(one / "band", **SPLIT)
    two = write(tmp_path / "two", twin=pooler("b"))
    plugins = load_plugins([one, two])
    used = [plugins.make(Pooler, name) for name in ("helped", "packed", "a", "b", "block-max")]
    kept = plugins.files_of(used)
    twin = f"{plugins.source_of(used[3]).version}/twin.py"
    packed = {"band/__init__.py", "band/hooks.py", "band/sizes.py"}
    assert set(kept) == {"helped.py", "_kept.py", "twin.py", twin} | packed
    assert plugins.files_of(used[4:]) == {}
    forget(tmp_path)
    for name, text in kept.items():
        write((tmp_path / "kept" / name).parent, **{Path(name).stem: text})
    again = load_plugins([tmp_path / "kept", tmp_path / "kept" / twin])
    for made in used:
        assert identity(again.make(Pooler, made.spec)) == identity(made)
    forget(tmp_path)


def test_a_helper_of_another_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        write(folder, helped="from _mixed import SCALE\n" + HELPED, _mixed="SCALE = 5.0\n")
    write(folders[1], _mixed="SCALE = 7.0\n")
    plugins = load_plugins(folders)
    (reason,) = reasons(plugins, "helped")
    assert reason.startswith(f"ImportError: _mixed was imported from {folders[0] / '_mixed.py'}, not from {folders[1]}")
    forget(tmp_path)


def test_modules_that_import_one_another_are_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    round_ = {"_round": "from _trip import A\nB = 1\n", "_trip": "from _round import B\nA = 1\n"}
    plugins = load_plugins([write(tmp_path, circle="from _round import B\n", fine=pooler("fine-first"), **round_)])
    (reason,) = reasons(plugins, "circle")
    assert "partially initialized module '_round'" in reason
    assert plugins.make(Pooler, "fine-first")
    forget(tmp_path)


def test_a_missing_plugins_folder_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"The plugins folder .*nowhere does not exist; --plugins-dir names a folder"):
        load_plugins([tmp_path / "nowhere"])


BROKEN = {
    "syntax": ("def bserkit_poolers(:", "SyntaxError: "),
    "missing": ("import a_module_that_nobody_has", "ModuleNotFoundError: No module named 'a_module_that_nobody_has'"),
    "leaving": ("import sys\nsys.exit(3)", "SystemExit: 3"),
    "leaving_at_once": ("import os\nos._exit(3)", r"SystemExit: os\._exit\(3\)"),
    "leaving_by_name": ("from os import _exit\n_exit(3)", r"SystemExit: os\._exit\(3\)"),
    "looping": ("def f(): f()\nf()", "RecursionError: "),
    "failing": ("1 / 0", "ZeroDivisionError: division by zero"),
    "asserting": ("raise BaseException('no')", "BaseException: no"),
    "null": ("x = 1\0", "(SyntaxError|ValueError): .*null bytes"),
    "renamed": ("from bserkit import Poolerr", "ImportError: cannot import name 'Poolerr'"),
    "hook_fails": (
        "from bserkit import hookimpl\n@hookimpl\ndef bserkit_poolers():\n    return 1 / 0",
        "bserkit_poolers: ZeroDivisionError: division by zero",
    ),
    "hook_leaves": (
        "import sys\nfrom bserkit import hookimpl\n@hookimpl\ndef bserkit_poolers():\n    sys.exit(3)",
        "bserkit_poolers: SystemExit: 3",
    ),
    "hook_returns_nothing": (
        "from bserkit import hookimpl\n@hookimpl\ndef bserkit_poolers():\n    pass",
        "bserkit_poolers: TypeError: 'NoneType' object is not iterable",
    ),
    "hook_wants_more": (
        "from bserkit import hookimpl\n@hookimpl\ndef bserkit_poolers(config):\n    return []",
        ".*config",
    ),
}


@pytest.mark.parametrize("stem", BROKEN)
def test_a_broken_plugin_is_reported_and_stops_nothing(tmp_path, stem):
    text, reason = BROKEN[stem]
    plugins = load_plugins([write(tmp_path, **{stem: text, "aaa": pooler("aaa-first"), "zzz": pooler("zzz-first")})])
    (failure,) = plugins.failures
    assert failure.source.name == stem
    assert failure.source.location == str((tmp_path / f"{stem}.py").resolve())
    assert re.match(reason, failure.reason), failure.reason
    assert "\n" not in failure.reason
    assert plugins.make(Pooler, "aaa-first")
    assert plugins.make(Pooler, "zzz-first")
    assert plugins.make(Pooler, "block-max")


def test_a_broken_plugin_leaves_no_module_behind(tmp_path):
    load_plugins([write(tmp_path, halfway="x = 1\nraise RuntimeError")])
    assert not [name for name in sys.modules if "halfway" in name]


def test_an_interrupt_names_the_plugin_waited_for(tmp_path):
    with pytest.raises(KeyboardInterrupt) as caught:
        load_plugins([write(tmp_path, slow="raise KeyboardInterrupt")])
    (note,) = caught.value.__notes__
    assert re.match(r"Plugin slow \(.*slow\.py\) was being loaded\. .*--no-plugins\.", note)
    assert CliRunner().invoke(main, ["plugins", "--plugins-dir", str(tmp_path), "--no-plugins"]).stderr == ""


def test_a_plugin_that_takes_long_is_named(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(importing, "PATIENCE_SECONDS", 0.01)
    load_plugins([write(tmp_path, slow="import time\ntime.sleep(0.3)")])
    assert re.search(r"Plugin slow \(.*slow\.py\) has been loading for .*--no-plugins", caplog.text)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_that_a_plugin_forks_may_leave(tmp_path):
    text = """
        import os
        child = os.fork()
        if not child:
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        """
    command = [sys.executable, "-m", "bserkit", "plugins", "--plugins-dir", str(write(tmp_path, forks=text))]
    subprocess.run(command, check=True, capture_output=True)


LOUD = """
import os
print("zzprinted")
os.write(1, b"zzwritten\\n")
os.system("echo zzstarted")
""" + pooler("loud-first").replace("    return [First]", "    print('zzreturned')\n    return [First]")


def test_what_a_plugin_prints_goes_where_errors_go(tmp_path):
    command = [
        sys.executable,
        "-m",
        "bserkit",
        "components",
        "pooler",
        "--plugins-dir",
        str(write(tmp_path, loud=LOUD)),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert set(done.stderr.split()) == {"zzprinted", "zzwritten", "zzstarted", "zzreturned"}
    assert done.stdout.startswith("pooler\n")
    assert "loud-first" in done.stdout
    assert "zz" not in done.stdout


def test_an_unreadable_file_is_reported_and_skipped(tmp_path):
    write(tmp_path, fine=pooler("fine-first"))
    (tmp_path / "dangling.py").symlink_to(tmp_path / "nowhere.py")
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "circle.py").symlink_to(tmp_path / "circle.py")
    (tmp_path / "below").symlink_to(tmp_path)
    plugins = load_plugins([tmp_path])
    assert plugins.make(Pooler, "fine-first")
    assert {failure.source.name for failure in plugins.failures} <= {"circle", "dangling", "folder"}
    assert "it cannot be read: Too many levels of symbolic links" in reasons(plugins, "circle")


def test_hidden_files_are_no_plugins(tmp_path):
    write(tmp_path, fine=pooler("fine-first"))
    (tmp_path / "._fine.py").write_bytes(b"\0\5\x16\7")
    plugins = load_plugins([tmp_path])
    assert plugins.failures == ()
    assert plugins.make(Pooler, "fine-first")


def test_a_misspelt_hook_is_reported_with_the_nearest(tmp_path):
    text = pooler("spelt-first").replace("bserkit_poolers", "bserkit_pooler")
    plugins = load_plugins([write(tmp_path, misspelt=text, next=pooler("next-first"))])
    (reason,) = reasons(plugins, "misspelt")
    assert "bserkit_pooler" in reason
    assert "(did you mean 'bserkit_poolers'?)" in reason
    assert names(plugins, "misspelt") == []
    assert names(plugins, "next") == ["next-first"]


def test_a_hook_without_its_mark_is_reported(tmp_path):
    text = pooler("unmarked-first").replace("@hookimpl\n", "")
    plugins = load_plugins([write(tmp_path, unmarked=text)])
    assert reasons(plugins, "unmarked") == ["bserkit_poolers is not marked with @hookimpl"]


MISFITS = {
    "an_instance": ("First()", r"First\(scale=1\.0\) is not a Pooler class"),
    "a_string": ("'block-max'", "'block-max' is not a Pooler class"),
    "another_class": ("dict", "<class 'dict'> is not a Pooler class"),
    "another_kind": ("LeftOnly", r".*LeftOnly.* is not a Pooler class"),
    "an_abstract_class": ("Abstract", "Abstract does not implement pool"),
    "the_contract": ("Pooler", "Pooler does not implement pool"),
    "a_nameless_class": ("Nameless", r"Nameless has no name; set a class variable such as name = 'block-max'"),
    "a_name_as_a_parameter": ("NameField", r"NameField has a parameter 'name', a reserved name"),
    "reserved_parameters": ("Reserved", "Reserved has a parameter 'kind' and 'spec' and 'pool', a reserved name; call"),
    "a_name_that_is_no_text": ("Number", "Number has no name"),
    "a_name_that_cannot_be_typed": ("Untypable", "Untypable"),
}
MISFIT_CLASSES = """
import warnings
from typing import ClassVar
from bserkit import ChannelTransform

class LeftOnly(ChannelTransform):
    name = "left-only"
    outputs = ("left",)
    def transform(self, stereo):
        return stereo[:1]

class Abstract(Pooler):
    name = "abstract"

class Complete(Pooler):
    def pool(self, segments):
        return segments[0]

class Nameless(Complete):
    pass

class NameField(Complete):
    name: str = "name-field"

with warnings.catch_warnings(action="ignore"):
    class Reserved(Complete):
        name = "reserved"
        kind: str = "a"
        spec: str = "b"
        pool: int = 3

class Number(Complete):
    name = 5

class Untypable(Complete):
    name = "My Pooler"
"""


@pytest.mark.parametrize("stem", MISFITS)
def test_non_components_are_reported_and_the_rest_load(tmp_path, stem):
    returned, reason = MISFITS[stem]
    text = pooler("fitting-first") + MISFIT_CLASSES
    text = text.replace("return [First]", f"return [First, {returned}]")
    plugins = load_plugins([write(tmp_path, **{stem: text})])
    (found,) = reasons(plugins, stem)
    assert re.match(f"bserkit_poolers: {reason}", found), found
    assert names(plugins, stem) == ["fitting-first"]


def test_a_transform_that_names_no_outputs_is_reported(tmp_path):
    text = """
        from bserkit import ChannelTransform, hookimpl

        class Vague(ChannelTransform):
            name = "vague"
            def transform(self, stereo):
                return stereo

        @hookimpl
        def bserkit_channels():
            return [Vague]
        """
    plugins = load_plugins([write(tmp_path, vague=text)])
    (reason,) = reasons(plugins, "vague")
    assert "outputs" in reason


def test_a_name_of_two_plugins_is_an_error_when_used(tmp_path):
    folder = write(tmp_path, one=pooler("claimed"), two=pooler("claimed"))
    plugins = load_plugins([folder])
    assert plugins.failures == ()
    assert plugins.make(Pooler, "block-max")
    with pytest.raises(UsageError) as caught:
        plugins.make(Pooler, "claimed")
    message = str(caught.value)
    assert f"The pooler 'claimed' is claimed by one ({(folder / 'one.py').resolve()})" in message
    assert f"and two ({(folder / 'two.py').resolve()})" in message
    assert "Ask for one/claimed or two/claimed, or leave outside plugins out with --no-plugins." in message


def test_a_plugins_name_before_it_tells_twins_apart(tmp_path):
    plugins = load_plugins([write(tmp_path, one=pooler("claimed"), two=pooler("claimed"), three=pooler("alone"))])
    for name in ("one/claimed", "two/claimed"):
        made = plugins.make(Pooler, f"{name}:scale=2")
        assert made.spec == f"{name}:scale=2.0"
        assert plugins.source_of(made).name == name.partition("/")[0]
        again = pickle.loads(pickle.dumps(made))  # noqa: S301
        assert (again, again.spec) == (made, made.spec)
    assert {"one/claimed", "two/claimed", "alone"} < plugins.choices("pooler").keys()
    assert plugins.make(Pooler, "three/alone").spec == "three/alone"
    assert plugins.make(Pooler, "built-in/block-max").spec == "block-max"
    with pytest.raises(UsageError, match=r"no pooler named 'on/claimed' \(did you mean 'one/claimed'\?\)"):
        plugins.make(Pooler, "on/claimed")


def test_twins_in_files_of_one_name_must_be_renamed(tmp_path):
    plugins = load_plugins([write(tmp_path / place, twin=pooler("claimed")) for place in ("one", "two")])
    with pytest.raises(UsageError, match="Rename one, remove one, or leave"):
        plugins.make(Pooler, "twin/claimed")
    assert not [name for name in plugins.choices("pooler") if "claimed" in name]


def test_a_built_in_keeps_its_name_beside_a_plugin(tmp_path):
    folder = write(tmp_path, impostor=pooler("block-max"))
    plugins = load_plugins([folder])
    assert plugins.source_of(plugins.make(Pooler, "block-max")).name == "built-in"
    assert plugins.source_of(plugins.make(Pooler, "impostor/block-max")).name == "impostor"
    assert plugins.make(Pooler, "block-max") != plugins.make(Pooler, "impostor/block-max")
    shown = CliRunner().invoke(main, ["plugins", "--plugins-dir", str(folder)])
    assert shown.exit_code == 0
    assert "2 are called pooler block-max; ask for them by block-max, impostor/block-max" in shown.output
    listed = CliRunner().invoke(main, ["components", "pooler", "--plugins-dir", str(folder)]).output
    assert re.search(r"^  block-max .*\n(      .*\n)+  impostor/block-max The first", listed, re.MULTILINE)


def test_a_plugin_cannot_pass_for_built_in(tmp_path):
    plugins = load_plugins([write(tmp_path, **{"built-in": pooler("block-max")})])
    assert [failure.reason for failure in plugins.failures] == ["no plugin may be called built-in; rename it"]
    assert plugins.make(Pooler, "block-max:blocks=3")


def test_a_distributions_name_tells_its_component(tmp_path, monkeypatch):
    distribution(tmp_path / "site", "bserkit-band", {"bands": "band_module"}, band_module=pooler("block-max"))
    monkeypatch.syspath_prepend(tmp_path / "site")
    plugins = load_plugins()
    made = plugins.make(Pooler, "bserkit-band/block-max")
    assert plugins.source_of(made).name == "bands"
    settings = resolve({"pooler": "bserkit-band/block-max:scale=2"}, plugins)
    assert settings.flat()["pooler"] == "bserkit-band/block-max"
    assert settings.flat()["pooler.scale"] == "2.0"
    assert "--pooler bserkit-band/block-max:scale=2.0" in settings.command()
    (tmp_path / "config.toml").write_text(settings.to_toml())
    assert resolve(read_config(tmp_path / "config.toml"), plugins) == settings
    (tmp_path / "config.toml").write_text('pooler = "bserkit-band/block-max"')
    assert resolve(read_config(tmp_path / "config.toml"), plugins).pooler == made


def test_one_name_may_serve_several_kinds(tmp_path):
    plugins = load_plugins([write(tmp_path, shared=pooler("mean"))])
    assert plugins.make(Pooler, "mean").kind == "pooler"
    assert plugins.make(Fuser, "mean").kind == "fusion"


def test_no_plugins_loads_built_ins_only(tmp_path):
    folder = write(tmp_path, trap=f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()")
    plugins = load_plugins([folder], outside=False)
    assert {source.name for source in plugins.sources} == {"built-in"}
    assert plugins.failures == ()
    result = CliRunner().invoke(main, ["components", "pooler", "--plugins-dir", str(folder), "--no-plugins"])
    assert result.exit_code == 0
    assert not (tmp_path / "ran").exists()


def test_unknown_name_error_lists_names_and_failures(tmp_path):
    plugins = load_plugins([write(tmp_path, good=pooler("good-first"), bad="import a_module_that_nobody_has")])
    with pytest.raises(UsageError) as caught:
        plugins.make(Pooler, "good-frist")
    message = str(caught.value)
    assert "There is no pooler named 'good-frist' (did you mean 'good-first'?)" in message
    assert "Known: block-avg, block-max, global-avg, global-max, good-first, vlad." in message
    assert "Plugins that failed to load: bad: ModuleNotFoundError" in message


def test_plugin_parameters_are_checked(tmp_path):
    plugins = load_plugins([write(tmp_path, strict=pooler("strict-first"))])
    with pytest.raises(UsageError, match=r"no parameter 'scala' \(did you mean 'scale'\?\)"):
        plugins.make(Pooler, "strict-first:scala=2")


def trap(folder):
    for place in (folder, folder / "plugins"):
        write(place, trap=f"import pathlib\npathlib.Path({str(folder / 'ran')!r}).touch()")
    return folder / "ran"


def test_code_in_the_working_folder_is_not_run_unasked(tmp_path):
    ran = trap(tmp_path)
    command = "from bserkit.cli import main; main(['plugins'])"
    done = subprocess.run(
        [sys.executable, "-P", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "trap" not in done.stdout + done.stderr
    assert not ran.exists()


def test_code_in_the_working_folder_is_run_when_asked(tmp_path, monkeypatch):
    ran = trap(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(main, ["plugins"], env={"BSERKIT_PLUGINS_DIR": "."}).exit_code == 0
    assert ran.exists()


def distribution(folder, name, entries, **modules):
    write(folder, **modules)
    info = folder / f"{name}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    lines = [f"{entry} = {value}" for entry, value in entries.items()]
    (info / "entry_points.txt").write_text("\n".join(["[bserkit]", *lines, ""]))
    return folder


def test_an_installed_package_is_found_by_entry_point(tmp_path, monkeypatch):
    text = pooler("entered-first")
    distribution(tmp_path, "entered-dist", {"entered": "entered_module"}, entered_module=text)
    monkeypatch.syspath_prepend(tmp_path)
    plugins = load_plugins()
    made = plugins.make(Pooler, "entered-first")
    source = plugins.source_of(made)
    assert (source.name, source.location, source.version) == ("entered", "entered-dist, entered_module", "1.2")
    assert pickle.loads(pickle.dumps(made)) == made  # noqa: S301
    assert names(load_plugins(outside=False), "entered") == []


def test_a_broken_entry_point_is_reported_and_skipped(tmp_path, monkeypatch):
    entries = {"gone": "module_that_was_never_there", "leaves": "leaving_module", "works": "working_module"}
    modules = {"leaving_module": "import sys\nsys.exit(1)", "working_module": pooler("working-first")}
    distribution(tmp_path, "mixed-dist", entries, **modules)
    monkeypatch.syspath_prepend(tmp_path)
    plugins = load_plugins()
    assert reasons(plugins, "gone") == ["ModuleNotFoundError: No module named 'module_that_was_never_there'"]
    assert reasons(plugins, "leaves") == ["SystemExit: 1"]
    assert plugins.make(Pooler, "working-first")


def test_package_and_file_of_one_name_are_both_named(tmp_path, monkeypatch):
    distribution(tmp_path / "site", "rival-dist", {"rival": "rival_module"}, rival_module=pooler("rivalled"))
    monkeypatch.syspath_prepend(tmp_path / "site")
    plugins = load_plugins([write(tmp_path / "plugins", local=pooler("rivalled"))])
    with pytest.raises(UsageError, match=r"claimed by rival \(rival-dist, rival_module\) and local \(.*local\.py\)"):
        plugins.make(Pooler, "rivalled")


def test_components_command_lists_origins_and_failures(tmp_path):
    folder = write(tmp_path, listed=pooler("listed-first"), broken="1 / 0")
    result = CliRunner().invoke(main, ["components", "pooler", "--plugins-dir", str(folder)])
    assert result.exit_code == 0
    assert re.search(
        r"listed-first +The first segment\.  \[listed: .*listed\.py\]\n +scale=1\.0  \(float\)", result.output
    )
    assert re.search(r"failed: broken \(.*broken\.py\): ZeroDivisionError: division by zero", result.output)
    assert "All other components can be used. Mend it, remove it, or leave outside plugins out with" in result.stderr


def test_protocols_are_not_open_to_plugins(tmp_path):
    text = """
        from bserkit import hookimpl

        @hookimpl
        def bserkit_protocols():
            return []
        """
    plugins = load_plugins([write(tmp_path, protocols=text)])
    assert len(reasons(plugins, "protocols")) == 1
    assert list(plugins.of_kind("protocol")) == ["folds", "losgo", "loso", "predefined", "stratified"]
