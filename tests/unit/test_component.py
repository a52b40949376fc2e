from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from bserkit import BserkitError, Component, Pooler, UsageError
from bserkit.component import Spec, build, parse_specs, read_specs
from bserkit.corpora.reading import CorpusReader
from bserkit.features.backbones import Backbone
from bserkit.features.frontends import Frontend
from bserkit.learning.classifiers import Classifier
from bserkit.plugins.builtin.classifiers import PcaSvm
from bserkit.plugins.registry import load_plugins

PLUGINS = load_plugins(outside=False)


class Sample(Component):
    kind = "sample"
    name = "sample-one"
    text: str = ""
    count: int = 1
    share: float = 0.5
    flag: bool = False
    mode: Literal["soft", "hard"] = "soft"


class Needy(Component):
    kind = "sample"
    name = "needy"
    path: str = Field(description="where it lies")
    size: int = Field(3, ge=1, description="how many")


def spelt(text):
    return [(spec.name, dict(spec.parameters)) for spec in parse_specs(text)]


def samples(texts):
    return st.builds(
        Sample,
        text=texts,
        count=st.integers(),
        share=st.floats(allow_nan=False),
        flag=st.booleans(),
        mode=st.sampled_from(["soft", "hard"]),
    )


CHARACTERS = st.characters(codec="utf-8")
PLAIN_TEXT = st.text(st.characters(codec="utf-8", exclude_characters='"')).filter(lambda text: text == text.strip())
NAMES = st.from_regex(r"[a-z0-9][a-z0-9-]*", fullmatch=True)
KEYS = st.from_regex(r"[a-z_][a-z0-9_]*", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lr", [("lr", {})]),
        ("lr,ms", [("lr", {}), ("ms", {})]),
        ("lr,bserkit-band/ms,my_file.v2/x:y=1", [("lr", {}), ("bserkit-band/ms", {}), ("my_file.v2/x", {"y": "1"})]),
        (" lr , ms ", [("lr", {}), ("ms", {})]),
        ("block-max:blocks=2", [("block-max", {"blocks": "2"})]),
        ("block-max: blocks = 2 , pyramid = true", [("block-max", {"blocks": "2", "pyramid": "true"})]),
        ("lr,block-max:blocks=2,ms", [("lr", {}), ("block-max", {"blocks": "2"}), ("ms", {})]),
        ("a:x=1,b:y=2", [("a", {"x": "1"}), ("b", {"y": "2"})]),
        ("a:x=b=c", [("a", {"x": "b=c"})]),
        ("a:x=", [("a", {"x": ""})]),
        ("folders:speaker=(?:S[MF])", [("folders", {"speaker": "(?:S[MF])"})]),
        ('folders:speaker="S[MF]{1,2}"', [("folders", {"speaker": "S[MF]{1,2}"})]),
        ('a:path="x,y=z,w",b', [("a", {"path": "x,y=z,w"}), ("b", {})]),
    ],
)
def test_commas_part_components_but_not_parameters(text, expected):
    assert spelt(text) == expected


@pytest.mark.parametrize(
    "text", ["Block-Max", "block_max", "blocks=2", "block-max:", "block-max:2", "a b", "a:1=2", "/a", "a/", "a/b/c"]
)
def test_a_misspelt_component_error_shows_an_example(text):
    with pytest.raises(UsageError, match="not spelt as a component") as caught:
        parse_specs(text)
    assert repr(text) in str(caught.value)
    assert "block-max:blocks=2,pyramid=true" in str(caught.value)


def test_a_bare_comma_error_shows_the_quotes_needed():
    with pytest.raises(UsageError, match="a comma goes in double quotes, within the shell's single quotes") as caught:
        parse_specs(r"folders:speaker=s(\d{1,3})_")
    assert parse_specs(str(caught.value).split("'")[-2])[0].parameters == {"speaker": r"s(\d{1,3})_"}


@pytest.mark.parametrize("text", ["", " ", ","])
def test_an_empty_spelling_is_refused(text):
    with pytest.raises(UsageError):
        parse_specs(text)


@pytest.mark.parametrize("text", ['block-max:blocks="2', 'a:x=1"2', 'a:x="b,c'])
def test_a_quote_that_is_not_closed_is_refused(text):
    with pytest.raises(UsageError):
        parse_specs(text)


def test_a_parameter_given_twice_is_refused_by_name():
    with pytest.raises(UsageError, match="gives the parameter 'blocks' twice"):
        parse_specs("block-max:blocks=2,blocks=3")


def test_a_table_is_the_component_that_its_name_says():
    (spec,) = read_specs({"name": "block-max", "blocks": 3, "pyramid": True})
    assert spec == Spec("block-max", {"blocks": 3, "pyramid": True})
    assert build(PLUGINS.find("pooler", "block-max").component, spec) == PLUGINS.make(
        Pooler, "block-max:blocks=3,pyramid=true"
    )


def test_a_list_may_mix_spellings_and_tables():
    value = ["lr,block-max:blocks=2", {"name": "ms"}, ["mono"]]
    assert [str(spec) for spec in read_specs(value)] == ["lr", "block-max:blocks=2", "ms", "mono"]


@pytest.mark.parametrize("value", [3, None, {"blocks": 2}, {"name": 2}, [1], True])
def test_what_is_neither_spelling_nor_table_is_refused(value):
    with pytest.raises(UsageError, match="is not a component; expected 'name:key=value' or a table with a name"):
        read_specs(value)


def test_an_unknown_parameter_is_refused_with_known():
    with pytest.raises(UsageError) as caught:
        PLUGINS.make(Pooler, "block-max:block=3")
    message = str(caught.value)
    assert "pooler block-max: no parameter 'block' (did you mean 'blocks'?)" in message
    assert "blocks=2, pyramid=false, magnitude=true, deltas=true" in message


def test_a_missing_parameter_is_named():
    with pytest.raises(UsageError, match=r"sample needy: the parameter 'path' is required.*path=required, size=3"):
        build(Needy, Spec("needy", {}))


@pytest.mark.parametrize("given_value", ["two", "0", "1.5", "", "none"])
def test_a_wrong_value_is_shown_with_its_parameter(given_value):
    with pytest.raises(UsageError, match=rf"pooler block-max: blocks={given_value}: input should be "):
        PLUGINS.make(Pooler, Spec("block-max", {"blocks": given_value}))


def test_every_problem_is_told_at_once():
    with pytest.raises(UsageError) as caught:
        build(Needy, Spec("needy", {"size": "many", "colour": "red"}))
    message = str(caught.value)
    assert "'path' is required" in message
    assert "size=many" in message
    assert "no parameter 'colour'" in message


def test_parameters_that_do_not_agree_are_explained():
    with pytest.raises(UsageError, match="frontend logmel: bands from 20 to 8000 Hz do not fit below half of 8000 Hz"):
        PLUGINS.make(Frontend, "logmel:sample_rate=8000")


def test_an_unknown_choice_is_refused_with_the_choices():
    with pytest.raises(UsageError, match=r"scale=minmax: input should be 'standard' or 'none'"):
        PLUGINS.make(Classifier, "linear-svm:scale=minmax")


def test_a_component_with_no_parameters_says_so():
    with pytest.raises(UsageError, match="Its parameters and defaults: none"):
        PLUGINS.make(CorpusReader, "emovo:x=1")


def test_several_components_instead_of_one_are_refused():
    with pytest.raises(UsageError, match="One pooler was expected, but 'block-max,block-avg' names 2"):
        PLUGINS.make(Pooler, "block-max,block-avg")


def test_usage_errors_are_bserkit_errors_and_exit_2():
    assert issubclass(UsageError, BserkitError)
    assert (BserkitError.exit_code, UsageError.exit_code) == (1, 2)


def test_a_spec_names_only_non_default_parameters():
    assert PLUGINS.make(Pooler, "block-max").spec == "block-max"
    assert PLUGINS.make(Pooler, "block-max:blocks=2,pyramid=true").spec == "block-max:pyramid=true"


@given(samples(PLAIN_TEXT))
def test_a_spec_makes_the_same_component_again(component):
    (spec,) = parse_specs(component.spec)
    assert build(Sample, spec) == component


@given(samples(st.text(CHARACTERS)))
def test_a_spec_with_quotes_makes_the_same_component(component):
    (spec,) = parse_specs(component.spec)
    assert build(Sample, spec) == component


@given(samples(st.text(CHARACTERS)))
def test_a_parameter_table_makes_the_same_component(component):
    (spec,) = read_specs({"name": component.name} | component.parameters)
    assert build(Sample, spec) == component


@given(st.lists(st.builds(Spec, NAMES, st.dictionaries(KEYS, PLAIN_TEXT)), min_size=1))
def test_lists_of_specs_are_read_back_from_their_text(specs):
    assert parse_specs(",".join(str(spec) for spec in specs)) == specs


def test_a_component_cannot_be_changed():
    component = Sample(count=2)
    with pytest.raises(ValidationError, match="frozen"):
        component.count = 3
    assert component.count == 2


def test_components_compare_and_hash_by_kind_and_value():
    assert PLUGINS.make(Pooler, "block-max:blocks=2") == PLUGINS.make(Pooler, "block-max")
    assert hash(PLUGINS.make(Pooler, "block-max:blocks=2")) == hash(PLUGINS.make(Pooler, "block-max"))
    assert PLUGINS.make(Pooler, "block-max:blocks=3") != PLUGINS.make(Pooler, "block-max")
    assert PLUGINS.make(Pooler, "block-max") != PLUGINS.make(Pooler, "block-avg")


def test_descriptions_hold_name_default_type_and_text():
    assert Needy.describe_parameters() == [
        ("path", "required", "str", "where it lies"),
        ("size", "3", "int", "how many"),
    ]
    assert ("mode", "soft", "soft|hard", "") in Sample.describe_parameters()
    assert ("flag", "false", "bool", "") in Sample.describe_parameters()


def test_all_types_of_a_parameter_are_described():
    ((_, _, types, _),) = [row for row in PcaSvm.describe_parameters() if row[0] == "c"]
    assert types == "float|search"


def test_a_weights_path_means_the_same_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    backbone = PLUGINS.make(Backbone, "alexnet:weights=net.pth")
    assert backbone.parameters["weights"] == str(tmp_path / "net.pth")
