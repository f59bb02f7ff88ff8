"""What a method asks its context for is read in its code, so that no teacher is made for nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import PluginError
from bench.plugins.context_use import asked_for, uses_teacher
from bench.plugins.registry import Registry, discover, read
from bench.plugins.spec import parse

NO_TEACHER = [
    "aum", "cad_prune", "ccs", "d4m", "dc", "dc-paper", "dm", "dsa", "dsa-paper", "el2n", "forgetting",
    "idc", "label-solve", "mtt", "noise", "pca", "random", "random-soft", "unbalanced",
]  # fmt: skip
DYNAMICS = ["aum", "cad_prune", "ccs", "el2n", "forgetting", "grand", "pca", "random-soft", "unbalanced"]


def test_of_the_shipped_methods_these_need_no_teacher():
    registry = discover()
    methods = registry.names("method")
    assert [name for name in methods if not uses_teacher(parse(registry, "method", name))] == NO_TEACHER
    assert [name for name in methods if "dynamics" in asked_for(registry.get("method", name))] == DYNAMICS


@pytest.mark.parametrize(
    ("source", "used"),
    [
        ("def select(train, ipc, ctx): return ctx.features()", True),
        ("def select(train, ipc, ctx): return ctx.numpy('x').permutation(3)", False),
        ("def select(train, ipc, ctx): return ctx.normalise(train.images([0]))", False),
        ("def select(train, ipc, ctx): return getattr(ctx, 'logits')()", True),
        ("def half(lent): return lent.predict\ndef select(train, ipc, ctx): return half(ctx)", True),
        ("def never(ctx): return ctx.x\ndef select(train, ipc, ctx): return never(ctx)", False),
        ("import theirs\ndef select(train, ipc, lent): return theirs.picks(train, lent)", True),
        ("def select(train, ipc, lent):\n    from theirs import picks\n    return picks(train, of=lent)", True),
        ("import numpy as np\ndef select(train, ipc, ctx): return np.arange(ipc)", False),
        ("def select(train, ipc, ctx): return ctx.dynamics(3)", False),
        ("TEACHER = False\ndef select(train, ipc, ctx): return net.features(train)", False),
        ("TEACHER = True\ndef select(train, ipc, ctx): return vars(ctx)", True),
        ("BACKBONES = 2\ndef select(train, ipc, ctx): return vars(ctx)", True),
    ],
)
def test_use_is_read_in_the_code_or_declared(tmp_path, source, used):
    assert uses_teacher(method(tmp_path, source)) == used


def test_use_may_depend_on_a_parameter(tmp_path):
    source = 'TEACHER = {"order": "check"}\ndef select(train, ipc, ctx, *, order: str = "check"): return ctx.predict'
    assert uses_teacher(method(tmp_path, source))
    assert not uses_teacher(method(tmp_path, source, "asks:order=trust"))


def test_a_declaration_of_no_parameter_is_refused(tmp_path):
    with pytest.raises(PluginError, match=r"TEACHER = .* must be True, False, or parameters of select"):
        method(tmp_path, 'TEACHER = {"ordr": "x"}\ndef select(train, ipc, ctx, *, order: str = ""): return 0')


def test_a_declaration_is_no_part_of_the_code_digest(tmp_path):
    source = "def select(train, ipc, ctx): return 0"
    plain = method(tmp_path, source).plugin.digest
    assert method(tmp_path, f"TEACHER = False\n{source}").plugin.digest == plain


def method(folder: Path, source: str, spec: str = "asks"):
    path = folder / "asks.py"
    path.write_text(f'"""A method of a test."""\n{source}\n', encoding="utf-8")
    return parse(Registry([read(path, kind="method", module_name=None)]), "method", spec)
