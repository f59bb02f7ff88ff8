"""Code digests: what can change a result changes them, what cannot does not."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from bench.plugins.code_digest import ROOT, code_digest
from bench.plugins.registry import CALLED, FOLDERS
from tests.worlds.plugins import write

CODE = '''
    """A description."""
    from methods._quota import class_members

    LEVEL = 3

    class State:
        """What is known."""

        level: int = 2

    def select(train, ipc, ctx, *, rate=0.5):
        """Pick."""
        # the first of each class
        return [own[:ipc] for _, own in class_members(train, ipc)]
'''


def edited(folder: Path, old: str = "", new: str = "") -> str:
    assert old in CODE
    return code_digest(write(folder / "mine.py", CODE.replace(old, new, 1) if old else CODE))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("A description.", "Another description."),
        ("# the first of each class", "# heads"),
        ('"""Pick."""', ""),
        ('"""What is known."""', ""),
        ("*, rate=0.5", "*,\n        rate   = 0.5"),
        ("return [own[:ipc]", "return   [ own[ : ipc ]"),
        ("LEVEL = 3", "LEVEL = (3)\n\n\n"),
    ],
)
def test_words_and_format_do_not_matter(tmp_path: Path, old: str, new: str) -> None:
    assert edited(tmp_path, old, new) == edited(tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LEVEL = 3", "LEVEL = 4"),
        ("LEVEL = 3", "LEVEL = 3.0"),
        ("LEVEL = 3", "LEVEL = '3'"),
        ("LEVEL = 3", "LEVEL = None"),
        ("LEVEL = 3", "LEVEL = True"),
        ("rate=0.5", "rate=0.6"),
        ("level: int = 2", "level: int = 1"),
        ("own[:ipc]", "own[ipc:]"),
        ("own[:ipc]", "own[0:ipc]"),
    ],
)
def test_code_matters(tmp_path: Path, old: str, new: str) -> None:
    assert edited(tmp_path, old, new) != edited(tmp_path)


@pytest.mark.parametrize(("one", "other"), [("b'x'", "\"b'x'\""), ("1j", "'1j'"), ("...", "'Ellipsis'"), ("1", "True")])
def test_constants_of_other_types_are_told_apart(tmp_path: Path, one: str, other: str) -> None:
    assert edited(tmp_path, "LEVEL = 3", f"LEVEL = {one}") != edited(tmp_path, "LEVEL = 3", f"LEVEL = {other}")


def test_the_place_of_the_file_does_not_matter(tmp_path: Path) -> None:
    assert edited(tmp_path / "here") == edited(tmp_path / "there")


# --- shared code ------------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of its own: a method that uses shared code, which uses more shared code."""
    for folder in ("bench", "methods", "methods/_shared"):
        write(tmp_path / folder / "__init__.py", "")
    write(tmp_path / "methods/_help.py", "from methods._shared.deep import depth\n")
    write(tmp_path / "methods/_shared/deep.py", DEEP)
    write(tmp_path / "methods/_other.py", "unused = 1\n")
    write(tmp_path / "methods/selection/near.py", "near = 1\n")
    return tmp_path


DEEP = """
    from methods._help import x  # a circle

    STEP = 1

    def depth():
        return STEP

    def unused():
        return 1
    """


def plugin_digest(project: Path, source: str = "", *, name: str = "mine") -> str:
    path = project / f"methods/selection/{name}.py"
    return code_digest(write(path, source) if source else path, called=CALLED, root=project)


@pytest.mark.parametrize(
    "source",
    [
        "from methods._help import depth\nused = depth",
        "import methods._help\nused = methods._help.depth",
        "from methods import _help\nused = _help.depth",
        "import methods._help as h\nused = h.depth",
        "from .._help import depth\nused = depth",
        "from .. import _help\nused = _help.depth",
        "from methods._help import *\nused = depth",
        "def f():\n    from methods._help import depth\n    return depth",
        "try:\n    from methods._help import depth\nexcept ImportError:\n    depth = None\nused = depth",
    ],
)
def test_shared_code_counts_however_it_is_imported_and_however_deep(project: Path, source: str) -> None:
    before = plugin_digest(project, source)
    write(project / "methods/_other.py", "unused = 2\n")
    assert plugin_digest(project) == before
    write(project / "methods/_shared/deep.py", DEEP.replace("STEP = 1", "STEP = 1  # reworded"))
    assert plugin_digest(project) == before
    write(project / "methods/_shared/deep.py", DEEP.replace("STEP = 1", "STEP = 2"))
    assert plugin_digest(project) != before


def test_an_import_of_a_name_that_no_disk_takes_is_of_no_file(project: Path) -> None:
    plugin = write(project / "mine.py", CODE.replace("methods._quota", "x" * 300))
    assert len(code_digest(plugin)) == 64


def test_of_shared_code_what_is_not_used_does_not_count(project: Path) -> None:
    before = plugin_digest(project, "from methods._help import depth\nused = depth")
    write(project / "methods/_shared/deep.py", DEEP.replace("return 1", "return 2"))
    assert plugin_digest(project) == before


@pytest.mark.parametrize(
    "acting",
    [
        "TABLE = {}\nTABLE['x'] = 1", "if True:\n    x = 1", "x = 1\nx = 2", "@note\ndef f(): return 1",
        "class A(Base): x = 1", "class A:\n    x = note(1)", "x = note(1)", "def f(x=note(1)): pass", "note(1)",
    ],
)  # fmt: skip
def test_what_acts_when_shared_code_is_imported_counts(project: Path, acting: str) -> None:
    help_ = "from methods._shared.deep import depth\nnote = print\nclass Base: pass\n"
    write(project / "methods/_help.py", help_ + acting)
    before = plugin_digest(project, "from methods._help import depth\nused = depth")
    changed = " 2".join(acting.rsplit(" 1", 1)) if " 1" in acting else "(2)".join(acting.rsplit("(1)", 1))
    if acting == "x = 1\nx = 2":
        changed = "x = 2\nx = 1"
    assert changed != acting
    write(project / "methods/_help.py", help_ + changed)
    assert plugin_digest(project) != before


def test_code_may_be_moved_between_files(project: Path) -> None:
    shared = "import math\n_STEP = 2\ndef helped(x):\n    return math.sqrt(x) * _STEP\n"
    rest = "def select():\n    return helped(3)\n"
    before = plugin_digest(project, shared + rest)
    write(project / "methods/_helped.py", shared)
    write(project / "methods/_face.py", "from methods._helped import helped\n__all__ = ['helped']\n")
    for module in ("methods._helped", "methods._face", ".._helped"):
        assert plugin_digest(project, f"import math\nfrom {module} import helped\n{rest}") == before
    write(project / "methods/_helped.py", shared.replace("= 2", "= 3"))
    assert plugin_digest(project) != before


def test_names_are_what_they_are_bound_to(project: Path) -> None:
    """The same texts, bound the other way round, are another program."""
    write(project / "methods/_a.py", "STEP = 1\ndef step(): return STEP\n")
    write(project / "methods/_b.py", "STEP = 2\ndef step(): return STEP\n")
    source = "from methods._a import step as one\nfrom methods._b import step as two\ndef select(): return one, two\n"
    swapped = source.replace("_a", "_x").replace("_b", "_a").replace("_x", "_b")
    assert plugin_digest(project, source) != plugin_digest(project, swapped)
    chosen = "if FAST:\n    from methods._a import step\nelse:\n    from methods._b import step\n"
    assert plugin_digest(project, chosen) != plugin_digest(
        project, chosen.replace("_a", "_x").replace("_b", "_a").replace("_x", "_b")
    )


def test_the_harness_calls_the_function_of_the_plugins_own_file(project: Path) -> None:
    inner, outer = "def select(): return 1\n", "from methods._x import select as inner\ndef select(): return inner()\n"
    write(project / "methods/_x.py", inner)
    wrapped = plugin_digest(project, outer)
    write(project / "methods/_x.py", "def select(): return inner()\ndef inner(): return 1\n")
    assert plugin_digest(project, inner + "from methods._x import select as other\nused = other") != wrapped


def test_the_neighbours_of_an_installed_plugin_count(tmp_path: Path) -> None:
    for name, helper in (("one", "x = 1"), ("two", "x = 2"), ("three", "x = 1  # as one")):
        write(tmp_path / name / "mine.py", "from ._helper import x\nfrom . import _more\nused = x, _more\n")
        write(tmp_path / name / "_helper.py", helper)
        write(tmp_path / name / "_more.py", "y = 1")
    one, two, three = (code_digest(tmp_path / name / "mine.py") for name in ("one", "two", "three"))
    assert one == three != two


def test_texts_for_readers_do_not_count(project: Path) -> None:
    def with_text(text: str, use: str = "") -> str:
        texts = f"CITATION = {text!r}\nPUBLISHED = {{'a': {text!r}}}\nCHECK_EXCEPTIONS = {{'b': {text!r}}}\n"
        return plugin_digest(project, texts + f"__all__ = [{text!r}]\nNUM_GPUS = 0.5\n" + use)

    assert with_text("one") == with_text("other") == plugin_digest(project, "NUM_GPUS = 0.5\n")
    assert with_text("one") != plugin_digest(project, "NUM_GPUS = 0.6\n")
    use = "def select(): return PUBLISHED"
    assert with_text("one", use) != with_text("other", use)


# --- bench/ -----------------------------------------------------------------------------------------------------------

USER = "from bench.seeds import numpy_generator as g\ndef select(): return g(1)\n"


def test_imports_of_bench_do_not_count_by_their_text(project: Path) -> None:
    seeds = "def numpy_generator(x): return x\ndef torch_generator(x): return x\n"
    write(project / "bench/seeds.py", seeds)
    write(project / "bench/api.py", "class Train: pass\n")
    typed = USER + "from bench.api import Train\ndef f(x: Train): pass\n"
    before, before_typed = plugin_digest(project, USER), plugin_digest(project, typed)
    write(project / "bench/room/streams.py", seeds)
    for moved in (
        USER.replace("bench.seeds", "bench.room.streams"),
        "def select():\n    return g(1)\nfrom bench.room.streams import numpy_generator as g\n",
    ):
        assert plugin_digest(project, moved) == before
    assert plugin_digest(project, USER.replace("numpy_generator", "torch_generator")) != before
    assert plugin_digest(project, USER.replace("g(1)", "h(1)").replace(" as g", " as h")) != before
    write(project / "bench/api.py", "class Train: x = 1\n")
    assert plugin_digest(project, typed) == before_typed
    assert plugin_digest(project, typed.replace("import Train", "import Test as Train")) != before_typed
    write(project / "bench/room/streams.py", seeds.replace("return x", "return x + 1", 1))
    assert plugin_digest(project, moved) != before


def test_what_only_type_checkers_import_does_not_count(project: Path) -> None:
    seen = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from bench.seeds import numpy_generator\n"
    write(project / "bench/seeds.py", "def numpy_generator(x): return x\n")
    before = plugin_digest(project, seen + "def select(x: numpy_generator): pass\n")
    write(project / "bench/seeds.py", "def numpy_generator(x): return x + 1\n")
    assert plugin_digest(project) == before


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code of this project."""
    root = tmp_path_factory.mktemp("scratch")
    for package in ("bench", "methods", "protocols"):
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    return root


def digests(root: Path, texts: Mapping[Path, str] | None = None) -> dict[str, str]:
    """The digests of all plugins of a project, by file, while some files hold other texts."""
    before = {file: file.read_text(encoding="utf-8") for file in texts or {}}
    try:
        for file, text in (texts or {}).items():
            file.write_text(text, encoding="utf-8")
        files = sorted(file for folder in FOLDERS for file in (root / folder).glob("[!_]*.py"))
        return {file.relative_to(root).as_posix(): code_digest(file, called=CALLED, root=root) for file in files}
    finally:
        for file, text in before.items():
            file.write_text(text, encoding="utf-8")


def users(root: Path, name: str) -> set[str]:
    """The plugins' files behind which there is an import of `name` from bench/, by the text of import lines alone."""

    def texts(file: Path, seen: set[Path]) -> str:
        seen.add(file)
        text = file.read_text(encoding="utf-8")
        imports = re.findall(r"^\s*from ((?:methods|protocols)[\w.]*) import ([\w, ]+)", text, re.MULTILINE)
        for package, names in imports:
            for each in (package, *(f"{package}.{part.split()[0]}" for part in names.split(",") if part.strip())):
                below = root / (each.replace(".", "/") + ".py")
                if below.is_file() and below not in seen:
                    text += texts(below, seen)
        return text

    line = re.compile(rf"^from bench.*\b{name}\b", re.MULTILINE)
    return {each for each in digests(root) if line.search(texts(root / each, set()))}


@pytest.mark.parametrize(
    ("file", "old", "new", "name", "least"),
    [
        ("bench/varint.py", "value >>= 7", "value >>= 6", "varint", 16),
        ("bench/seeds.py", "np.random.Philox(key", "np.random.Philox(counter=1, key", "numpy_generator", 3),
        ("bench/views/parameters.py", '"version": AUGMENT_VERSION', '"v": AUGMENT_VERSION', "Views", 2),
        ("bench/views/words.py", ">> np.uint64(11)", ">> np.uint64(12)", "Views|draw_operation", 2),
        ("bench/protocol/recipe.py", "mix_alpha: Positive = 1.0", "mix_alpha: Positive = 2.0", "Views", 2),
        ("bench/views/parameters.py", "starts.pop()", "starts.pop(0)", "batch_bounds|Views", 2),
    ],
)
def test_what_makes_bytes_and_numbers_makes_stale_what_depends_on_it_and_nothing_else(
    scratch: Path, file: str, old: str, new: str, name: str, least: int
) -> None:
    before, path = digests(scratch), scratch / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    after = digests(scratch, {path: text.replace(old, new)})
    changed = {each for each in before if before[each] != after[each]}
    assert changed == users(scratch, f"(?:{name})")
    assert len(changed) >= least
    assert digests(scratch, {path: f"# reworded\n{text}\n# reworded\n"}) == before


def test_contracts_engine_and_rooms_make_nothing_stale(scratch: Path) -> None:
    words = ("bench/varint.py", "bench/seeds.py", "bench/views", "bench/protocol/recipe.py")
    words += ("bench/sources.py", "bench/photographs", "bench/strangers.py", "bench/foreign", "bench/texts.py")
    counted = [scratch / each for each in words]
    texts = {
        file: file.read_text(encoding="utf-8").replace("return ", "return 1 and ")
        for file in (scratch / "bench").rglob("*.py")
        if not any(file.is_relative_to(scratch / each) for each in counted)
    }
    assert len(texts) > 90
    assert {scratch / "bench" / name for name in ("api.py", "errors.py", "engine.py", "augment.py")} <= texts.keys()
    assert digests(scratch, texts) == digests(scratch)


def test_a_new_option_of_a_protocol_makes_nothing_stale(scratch: Path) -> None:
    path = scratch / "bench/protocol/recipe.py"
    text = path.read_text(encoding="utf-8").replace(
        "class Optimizer(Part):", "class Optimizer(Part):\n    new: int = 0\n"
    )
    assert digests(scratch, {path: text}) == digests(scratch)


def test_moving_and_renaming_files_of_bench_makes_nothing_stale(scratch: Path) -> None:
    moved = {"bench/varint.py": "bench/room/leb128.py", "bench/seeds.py": "bench/room/streams.py"}
    moved |= {"bench/views/words.py": "bench/views/draws.py"}
    texts = {file: file.read_text(encoding="utf-8") for file in scratch.rglob("*.py")}
    for file, text in texts.items():
        text = text.replace("from bench import varint", "from bench.room import leb128 as varint")
        text = text.replace("from bench.seeds import", "from bench.room.streams import")
        texts[file] = text.replace("from bench.views.words import", "from bench.views.draws import")
    before = digests(scratch)
    (scratch / "bench/room").mkdir()
    contents = {new: (scratch / old).read_text(encoding="utf-8") for old, new in moved.items()}
    for old, new in moved.items():
        (scratch / old).rename(scratch / new)
        texts[scratch / new] = texts.pop(scratch / old)
    after = digests(scratch, texts)
    for old, new in moved.items():
        (scratch / new).rename(scratch / old)
        assert (scratch / old).read_text(encoding="utf-8") == contents[new]
    assert after == before
    assert digests(scratch) == before


def test_what_the_harness_may_ask_of_a_plugin_one_day_moves_no_digest_of_today() -> None:
    for plugin in (ROOT / "methods" / "selection" / "el2n.py", ROOT / "protocols" / "networks" / "resnet.py"):
        assert code_digest(plugin, called=CALLED) == code_digest(plugin, called=(*CALLED, "ASKED_ONE_DAY"))
