import json
import os
import shutil
import subprocess
import sys
import textwrap
from dataclasses import fields

import pytest
from click.shell_completion import ShellComplete

from bserkit.api import Given, Grid
from bserkit.cli import completion, main
from bserkit.experiments.settings import SETTINGS, Settings
from bserkit.plugins.registry import load_plugins

HEAVY = ("torch", "mlflow", "sklearn", "torchvision", "torchaudio", "pandas", "matplotlib", "pyarrow", "scipy")
PLUGINS = load_plugins(outside=False)

SCRIPT = f"""
import json
import sys
from bserkit.cli import main

try:
    main(sys.argv[1:], prog_name="bserkit")
except SystemExit as end:
    print(json.dumps([end.code, [name for name in {HEAVY!r} if name in sys.modules]]), file=sys.stderr)
"""


def heavy_imports(arguments, tmp_path, **environment):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=os.environ | environment,
    )
    code, imported = json.loads(done.stderr.splitlines()[-1])
    assert code == 0, done.stderr
    assert done.stdout
    return done.stdout, imported


def completions(*words):
    *arguments, incomplete = words
    completer = ShellComplete(main, {}, "bserkit", "_BSERKIT_COMPLETE")
    return [item.value for item in completer.get_completions(arguments, incomplete)]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["run", "--help"],
        ["extract", "--help"],
        ["sweep", "--help"],
        ["compare", "--help"],
        ["report", "--help"],
        ["components"],
        ["plugins"],
        ["check", "--help"],
        ["new", "--help"],
        ["ui", "--help"],
    ],
    ids=" ".join,
)
def test_looking_around_imports_nothing_heavy(arguments, tmp_path):
    _, imported = heavy_imports(arguments, tmp_path)
    assert imported == []


def test_looking_at_the_cache_imports_nothing_heavy(tmp_path):
    _, imported = heavy_imports(["cache", "--cache", str(tmp_path)], tmp_path)
    assert imported == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("bserkit ru", "plain,run"),
        ("bserkit run --pooler block-m", "plain,block-max"),
        ("bserkit run --pooler block-max:bl", "plain,block-max:blocks="),
        ("bserkit run --backbone alexnet:la", "plain,alexnet:layer="),
        ("bserkit sweep --pooler block-max --pooler block-a", "plain,block-avg"),
    ],
)
def test_completion_imports_nothing_heavy(line, expected, tmp_path):
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1), "_BSERKIT_COMPLETE": "bash_complete"}
    shown, imported = heavy_imports([], tmp_path, **words)
    assert shown.split() == [expected]
    assert imported == []


def test_a_check_of_heavy_imports_can_fail(tmp_path):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "heavy.py").write_text("import scipy\n")
    _, imported = heavy_imports(["components", "--plugins-dir", "plugins"], tmp_path)
    assert imported == ["scipy"]


@pytest.mark.parametrize(
    ("option", "kind"),
    [
        ("--corpus", "corpus"),
        ("--channels", "channels"),
        ("--frontend", "frontend"),
        ("--backbone", "backbone"),
        ("--finetune", "finetune"),
        ("--pooler", "pooler"),
        ("--classifier", "classifier"),
        ("--fusion", "fusion"),
        ("--protocol", "protocol"),
    ],
)
def test_completion_knows_components_and_parameters(option, kind):
    registered = PLUGINS.of_kind(kind)
    assert completions("run", option, "") == list(registered)
    for name, (one,) in registered.items():
        assert name in completions("run", option, name[:2])
        fields = list(one.component.model_fields)
        assert completions("run", option, f"{name}:") == [f"{name}:{field}=" for field in fields]
        for field in fields:
            assert f"{name}:{field}=" in completions("run", option, f"{name}:{field[:3]}")


def test_completion_goes_on_after_a_comma():
    assert completions("run", "--channels", "lr,m") == ["lr,mono", "lr,ms"]
    assert completions("run", "--pooler", "block-max:blocks=2,py") == ["block-max:blocks=2,pyramid="]


def test_completion_knows_the_values_of_a_parameter():
    assert completions("run", "--pooler", "block-max:pyramid=") == ["block-max:pyramid=true", "block-max:pyramid=false"]
    assert completions("run", "--fusion", "two-stage:metric=u") == ["two-stage:metric=uar"]
    assert completions("run", "--backbone", "alexnet:weights=random,layer=fc6") == ["alexnet:weights=random,layer=fc6"]
    assert completions("run", "--pooler", "block-max:blocks=") == []


def test_completion_knows_the_words_of_a_setting():
    assert completions("run", "--mono", "") == ["refuse", "duplicate", "skip"]
    assert completions("run", "--microphones", "s") == ["skip"]
    assert completions("run", "--precision", "b") == ["bf16"]
    assert completions("run", "--device", "c") == ["cpu", "cuda"]


def test_every_setting_is_option_field_and_argument():
    own = {"config", "no-plugins", "quiet", "verbose"}
    options = {option.name.replace("_", "-") for option in main.commands["run"].params if option.name}
    assert options - own == set(SETTINGS)
    assert {field.name.replace("_", "-") for field in fields(Settings)} - {"found-reader"} == set(SETTINGS) - {"cache"}
    assert {name.replace("_", "-") for name in Given.__annotations__} - own == set(SETTINGS) - {"data"}
    assert {name.replace("_", "-") for name in Grid.__annotations__} - own == set(SETTINGS) - {"data", "run-name"}


def test_completion_of_what_is_unknown_offers_nothing():
    assert completions("run", "--pooler", "nothing") == []
    assert completions("run", "--pooler", "nothing:x") == []
    assert completions("run", "--pooler", "block-max:x") == []


def test_completion_knows_plugins_of_a_named_folder(tmp_path):
    (tmp_path / "mine.py").write_text(
        textwrap.dedent("""
            from bserkit import Pooler, hookimpl

            class Mine(Pooler):
                name = "mine-alone"
                strength: int = 1

                def pool(self, segments):
                    return segments[0]

            @hookimpl
            def bserkit_poolers():
                return [Mine]
            """)
    )
    folder = str(tmp_path)
    assert completions("run", "--plugins-dir", folder, "--pooler", "mine") == ["mine-alone"]
    assert completions("run", "--plugins-dir", folder, "--pooler", "mine-alone:s") == ["mine-alone:strength="]
    (tmp_path / "twin.py").write_text((tmp_path / "mine.py").read_text())
    assert completions("run", "--plugins-dir", folder, "--pooler", "twin") == ["twin/mine-alone"]
    assert completions("run", "--plugins-dir", folder, "--pooler", "twin/mine-alone:s") == ["twin/mine-alone:strength="]
    assert completions("run", "--plugins-dir", folder, "--no-plugins", "--pooler", "mine") == []
    nowhere = str(tmp_path / "nowhere")
    assert completions("run", "--plugins-dir", nowhere, "--pooler", "block") == ["block-avg", "block-max"]


@pytest.mark.parametrize(
    "text", ["print('[]')", "import os\nos.kill(os.getpid(), 9)", "import time\nwhile True:\n    time.sleep(1)"]
)
def test_no_plugin_spoils_completion(tmp_path, monkeypatch, text):
    monkeypatch.setattr(completion, "LONGEST_SECONDS", 30 if "print" in text else 3)
    monkeypatch.setenv("BSERKIT_PLUGINS_DIR", str(tmp_path))
    (tmp_path / "bad.py").write_text(text)
    assert completions("run", "--pooler", "block") == ["block-avg", "block-max"]


BASH = """
PATH="{folder}:$PATH"
eval "$(_BSERKIT_COMPLETE=bash_source bserkit)"
COMP_WORDS=({words})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_bserkit_completion bserkit
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("bserkit run --pooler block-m", ["block-max"]),
        # Bash takes a colon and an equals sign for words of their own, and replaces the last word only.
        ("bserkit run --pooler block-max : bl", ["blocks="]),
        ("bserkit run --pooler block-max :", ["blocks=", "pyramid=", "magnitude=", "deltas="]),
        ("bserkit run --pooler block-max : blocks = 2,py", ["2,pyramid="]),
    ],
)
def test_completion_works_in_bash_as_bash_splits_words(tmp_path, words, expected):
    command = tmp_path / "bserkit"
    command.write_text(f"#!{sys.executable}\nfrom bserkit.cli import main\nmain(prog_name='bserkit')\n")
    command.chmod(0o755)
    script = BASH.format(folder=tmp_path, words=words)
    done = subprocess.run([shutil.which("bash"), "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == expected
