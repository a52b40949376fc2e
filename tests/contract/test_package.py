"""What the package is to those who import, type-check or start it."""

import importlib.metadata
import subprocess
import sys
from importlib.resources import files

import bserkit


def test_the_version_is_that_of_the_distribution():
    assert bserkit.__version__ == importlib.metadata.version("bserkit")
    assert not hasattr(bserkit, "__release__")


def test_type_checkers_are_told_that_it_is_typed():
    assert files("bserkit").joinpath("py.typed").is_file()


def test_the_package_starts_as_a_module(tmp_path):
    command = [sys.executable, "-m", "bserkit", "--version"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == f"bserkit, version {bserkit.__version__}\n"
