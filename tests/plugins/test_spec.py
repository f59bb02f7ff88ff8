"""Specs have one canonical form, whatever the order, the spelling of numbers and the defaults written out."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import UserError
from bench.plugins.registry import Registry, discover, read
from bench.plugins.spec import parse
from tests.worlds.plugins import write

LAW = settings(max_examples=80, deadline=None, derandomize=True)
SOURCE = '''
"""All types of parameters."""

def select(train, ipc, ctx, *, rate: float = 1.5, count: int = 3, order: str = "up", on: bool = True, limit=None):
    pass
'''


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    path = write(tmp_path_factory.mktemp("plugins") / "mine.py", SOURCE)
    return Registry([read(path, kind=None, module_name=None)])


def canonical(registry: Registry, text: str) -> str:
    return str(parse(registry, "method", text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mine", "mine"),
        ("mine:", "mine"),
        ("mine:rate=1.5,count=3,order=up,on=true,limit=none", "mine"),
        ("mine:rate=2", "mine:rate=2.0"),
        ("mine:rate=2.0", "mine:rate=2.0"),
        ("mine:rate=0.20e1", "mine:rate=2.0"),
        ("mine:rate=-0.0", "mine:rate=0.0"),
        ("mine:order=down,count=4", "mine:count=4,order=down"),
        ("mine:on=0", "mine:on=false"),
        ("mine:on=False", "mine:on=false"),
        ("mine:order=none", "mine:order=none"),
        ("mine:order=", "mine:order="),
        ("mine:limit=5", "mine:limit=5"),
        ("mine:limit=5.0", "mine:limit=5"),
        ("mine:limit=1e3", "mine:limit=1000"),
        ("mine:limit=0.5", "mine:limit=0.5"),
        ("mine:limit=TRUE", "mine:limit=true"),
        ("mine:limit=deep", "mine:limit=deep"),
    ],
)
def test_one_spelling(registry: Registry, text: str, expected: str) -> None:
    assert canonical(registry, text) == expected
    assert canonical(registry, expected) == expected


def test_all_parameters_are_resolved_with_the_types_of_their_defaults(registry: Registry) -> None:
    spec = parse(registry, "method", "mine:rate=2,on=false")
    assert spec.parameters == {"rate": 2.0, "count": 3, "order": "up", "on": False, "limit": None}
    assert isinstance(spec.parameters["rate"], float)


VALUES = {
    "rate": st.floats(allow_nan=False, allow_infinity=False).map(repr),
    "count": st.integers(-(10**12), 10**12).map(str),
    "order": st.text("abcxyz-_. 0123456789", max_size=6).map(str.strip),
    "on": st.sampled_from(["true", "false", "True", "0", "1"]),
    "limit": st.one_of(
        st.integers().map(str), st.floats(-1e6, 1e6).map(repr), st.sampled_from(["none", "word", "true"])
    ),
}


@LAW
@given(st.fixed_dictionaries({}, optional=VALUES), st.randoms(use_true_random=False))
def test_order_does_not_matter_and_the_canonical_form_is_a_fixed_point(
    registry: Registry, values: dict, random: Random
) -> None:
    pieces = [f"{key}={value}" for key, value in values.items()]
    text = "mine:" + ",".join(pieces)
    random.shuffle(pieces)
    shuffled = "mine:" + ",".join(pieces)
    spec = parse(registry, "method", text)
    assert str(spec) == canonical(registry, shuffled)
    again = parse(registry, "method", str(spec))
    assert again.parameters == spec.parameters
    assert {k: type(v) for k, v in again.parameters.items()} == {k: type(v) for k, v in spec.parameters.items()}
    assert all(spec.plugin.parameters[key] != value for key, value in spec.given.items())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nine", r"No method is named 'nine'\. Did you mean 'mine'\?"),
        (
            "mine:rat=1",
            r"has no parameter 'rat'\. Did you mean 'rate'\?\nIts parameters and defaults: rate=1.5",
        ),
        ("mine:rate", r"'rate' is not key=value\. Type mine:key=value"),
        ("mine:count=3,", "'' is not key=value"),
        ("mine:=3", "'=3' is not key=value"),
        ("mine:count=2,count=2", "'count' is given twice"),
        ("mine:count=2.5", "'2.5' is not a whole number; the default is 3"),
        ("mine:count=many", "'many' is not a whole number"),
        ("mine:rate=fast", "'fast' is not a finite number; the default is 1.5"),
        ("mine:rate=inf", "not a finite number"),
        ("mine:rate=nan", "not a finite number"),
        ("mine:limit=nan", "not a finite number"),
        ("mine:on=maybe", "'maybe' is not true or false; the default is true"),
        ("mine:count=none", "none is not allowed; the default is 3"),
    ],
)
def test_a_mistake_is_explained(registry: Registry, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(registry, "method", text)


def test_a_plugin_without_parameters_says_so() -> None:
    with pytest.raises(UserError, match="method 'random' takes no parameters; 'k' was given"):
        parse(discover(), "method", "random:k=3")


def test_networks_of_a_library_carry_the_models_name() -> None:
    registry = discover()
    spec = parse(registry, "network", "timm:resnet18")
    assert (spec.name, str(spec)) == ("timm:resnet18", "timm:resnet18")
    for text in ("timm", "timm:", "torchvision:width=3"):
        with pytest.raises(UserError, match="say which model, for instance"):
            parse(registry, "network", text)


def test_a_network_may_be_asked_for_without_norm() -> None:
    spec = parse(discover(), "network", "convnet:norm=none,width=16")
    assert str(spec) == "convnet:norm=none,width=16"
    assert spec.parameters["norm"] == "none"


def test_a_spec_file_does_not_have_to_be_in_the_project(tmp_path: Path) -> None:
    registry = discover([write(tmp_path / "other.py", SOURCE)])
    assert canonical(registry, "other:count=3") == "other"
