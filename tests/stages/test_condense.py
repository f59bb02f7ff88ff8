"""A method is called once, with a context that lends it seeds and shared artifacts, and is held to its contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.api import Condensed
from bench.artifacts.describe import describe
from bench.artifacts.opened import Data, TrainSplit, shrink
from bench.artifacts.refs import Workspace
from bench.artifacts.store import Store
from bench.errors import PluginError, UserError
from bench.plugins.registry import Registry, discover
from bench.plugins.spec import Spec, parse
from bench.stages.context import HarnessContext
from bench.stages.method_call import build_condensed
from bench.stages.teach import teach
from tests.worlds.plugins import write

IPC = 2


@pytest.fixture(scope="module")
def registry() -> Registry:
    return discover()


@pytest.fixture(scope="module")
def train(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> TrainSplit:
    return Data(parse(registry, "dataset", "digits"), tmp_path_factory.mktemp("data")).train


def method(tmp_path: Path, body: str, signature: str = "select(train, ipc, ctx)") -> Spec:
    source = (
        f'"""A method."""\nimport numpy as np\nimport torch\nfrom bench.api import Condensed\n\ndef {signature}:\n    '
    )
    source += body.replace("\n", "\n    ") + "\n"
    return parse(discover([write(tmp_path / "mine.py", source)]), "method", "mine")


GOOD = "own = np.concatenate([train.class_indices(c)[:ipc] for c in range(train.num_classes)])\n"
MADE = GOOD + "images, labels = train.images(own), torch.as_tensor(train.labels[own])\n"


def test_a_selection_becomes_images_and_labels(train: TrainSplit, tmp_path: Path) -> None:
    condensed = build_condensed(method(tmp_path, GOOD + "return own"), train, IPC, None)
    assert condensed.images.shape == (20, 1, 8, 8)
    assert condensed.labels.tolist() == [c for c in range(10) for _ in range(IPC)]
    assert condensed.indices is not None
    assert torch.equal(condensed.images, train.images(condensed.indices))


@pytest.mark.parametrize("returned", ["own.tolist()", "torch.as_tensor(own)", "own.astype(np.int32)", "own[::-1]"])
def test_indices_may_come_in_any_order_and_as_any_whole_numbers(
    train: TrainSplit, tmp_path: Path, returned: str
) -> None:
    condensed = build_condensed(method(tmp_path, GOOD + f"return {returned}"), train, IPC, None)
    assert condensed.indices is not None
    assert condensed.indices.dtype == np.int64


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("own.astype(float)", r"must return a 1-d array of indices \(int64\); it returned float64 of shape \(20,\)"),
        ("own[None]", r"it returned int64 of shape \(1, 20\)"),
        ("None", "must return a 1-d array of indices"),
        ("np.zeros(len(train), bool)", "it returned bool"),
        ("own - len(train)", "indices must lie in 0..1196"),
        ("own + len(train)", "indices must lie in 0..1196"),
        ("np.append(own[:-1], own[0])", "an image was picked twice"),
        ("own[:-1]", "exactly ipc = 2 images per class are asked for; class 9 has 1"),
        ("own[:5]", r"class 2 has 1 \(8 classes differ\)"),
        ("own[:0]", r"class 0 has 0 \(10 classes differ\)"),
        ("np.arange(20)", "exactly ipc = 2 images per class"),
    ],
)
def test_a_broken_selection_is_named(train: TrainSplit, tmp_path: Path, returned: str, message: str) -> None:
    with pytest.raises(PluginError, match=message) as caught:
        build_condensed(method(tmp_path, GOOD + f"return {returned}"), train, IPC, None)
    assert "method 'mine'" in str(caught.value)


def synthesize(tmp_path: Path, body: str) -> Spec:
    return method(tmp_path, MADE + body, "synthesize(train, ipc, ctx, *, rate: float = 0.5)")


def test_a_synthesis_keeps_its_provenance_and_parameters(train: TrainSplit, tmp_path: Path) -> None:
    spec = synthesize(tmp_path, "return Condensed(images, labels, own, {'loss': [0.5, None]})")
    condensed = build_condensed(spec, train, IPC, None)
    assert isinstance(condensed, Condensed)
    assert condensed.provenance == {"parameters": {"rate": 0.5}, "loss": [0.5, None]}


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("(images, labels)", "must return bench.api.Condensed, not <class 'tuple'>"),
        ("Condensed(images.numpy(), labels)", "images must be a torch tensor"),
        ("Condensed(images, labels.numpy())", "labels must be a torch tensor"),
        ("Condensed(images.double(), labels)", r"images must be uint8 \[20, 1, 8, 8\].*; it returned torch.float64"),
        ("Condensed(images[:, :, :4], labels)", r"it returned torch.uint8 \[20, 1, 4, 8\]"),
        ("Condensed(images.repeat(1, 3, 1, 1), labels)", r"it returned torch.uint8 \[20, 3, 8, 8\]"),
        ("Condensed(images[:-1], labels)", r"images must be uint8 \[20, 1, 8, 8\]"),
        ("Condensed(images, labels.int())", r"labels must be int64 \[M\]; it returned torch.int32"),
        ("Condensed(images, labels[:, None])", r"labels must be int64 \[M\]; it returned torch.int64 \[20, 1\]"),
        ("Condensed(images, labels[0])", r"labels must be int64 \[M\]"),
        ("Condensed(images, labels + 1)", "labels must lie in 0..9"),
        ("Condensed(images, labels - 1)", "labels must lie in 0..9"),
        ("Condensed(images, labels * 0)", "class 0 has 20"),
        ("Condensed(images[:10], labels[:10])", "class 5 has 0"),
        ("Condensed(images, labels, own.tolist())", r"indices must be None or an int64 array \[20\]"),
        ("Condensed(images, labels, own[:5])", r"indices must be None or an int64 array \[20\]"),
        ("Condensed(images, labels, own + 10**6)", "indices must lie in 0..1196"),
        ("Condensed(images, labels, None, {'x': images})", "provenance must hold JSON values only"),
    ],
)
def test_a_broken_synthesis_is_named(train: TrainSplit, tmp_path: Path, returned: str, message: str) -> None:
    with pytest.raises(PluginError, match=message) as caught:
        build_condensed(synthesize(tmp_path, f"return {returned}"), train, IPC, None)
    assert "method 'mine'" in str(caught.value)


# --- the training split ----------------------------------------------------------------------------------------------


def test_the_training_split_cannot_be_written_and_has_no_way_to_the_test_split(train: TrainSplit) -> None:
    with pytest.raises(ValueError, match="read-only"):
        train.labels[0] = 3
    assert len(train) == 1197
    assert not [name for name in vars(train) if "test" in name]
    batches = list(train.batches(500))
    assert [len(own) for own, _ in batches] == [500, 500, 197]
    assert torch.equal(torch.cat([images for _, images in batches]), train.images(np.arange(len(train))))


def test_sources_shrink_to_rounded_block_means() -> None:
    source = np.random.default_rng(0).integers(0, 256, (3, 2, 8, 8), dtype=np.uint8)
    naive = np.zeros((3, 2, 4, 4), np.uint8)
    for i, c, y, x in np.ndindex(naive.shape):
        naive[i, c, y, x] = int(source[i, c, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].astype(float).mean() + 0.5)
    assert np.array_equal(shrink(torch.from_numpy(source), 4).numpy(), naive)


def test_held_out_images_are_of_the_training_split_alone(registry: Registry, tmp_path: Path) -> None:
    whole = Data(parse(registry, "dataset", "digits"), tmp_path).dataset
    held = Data(parse(registry, "dataset", "heldout:of=digits"), tmp_path).dataset

    def pixels(source: Any) -> list[bytes]:
        return [image.tobytes() for image in source.read(np.arange(len(source)))]

    train, test = pixels(held.train()), pixels(held.test())
    assert sorted(train + test) == sorted(pixels(whole.train()))
    assert not set(test) & set(pixels(whole.test()))
    assert np.bincount(held.test().labels).min() >= 20
    with pytest.raises(UserError, match="No data set is named 'nosuch'"):
        _ = Data(parse(registry, "dataset", "heldout:of=nosuch"), tmp_path).dataset


# --- the context -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def workspace(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("store"), registry)


@pytest.fixture
def context(workspace: Workspace, tmp_path: Path) -> HarnessContext:
    return make_context(workspace, tmp_path)


def make_context(ws: Workspace, scratch: Path, replicate: int = 0, root: Path | None = None) -> HarnessContext:
    dataset = describe(ws, "digits")
    return HarnessContext(
        store=ws.store if root is None else Store(root),
        registry=ws.registry,
        data=ws.data("digits"),
        dataset_digest=dataset.digest,
        teacher=teach(ws, "small-teacher-v1", dataset),
        coordinates=("condense", "mine", "digits", IPC, replicate),
        scratch=scratch,
        device="cpu",
    )


def test_randomness_is_noticed_and_comes_from_names(workspace: Workspace, tmp_path: Path) -> None:
    one, again, other = (make_context(workspace, tmp_path, replicate) for replicate in (0, 0, 1))
    assert not one.asked_for_randomness
    one.predict(workspace.data("digits").train.images([0]))
    assert not one.asked_for_randomness
    drawn = one.numpy("draw").random(4)
    assert one.asked_for_randomness
    assert np.array_equal(drawn, again.numpy("draw").random(4))
    assert not np.array_equal(drawn, other.numpy("draw").random(4))
    assert not np.array_equal(drawn, one.numpy("other").random(4))
    assert other.torch("draw").initial_seed() != one.torch("draw").initial_seed()
    quiet = make_context(workspace, tmp_path)
    quiet.torch("draw")
    assert quiet.asked_for_randomness


def test_features_and_logits_are_those_of_the_teacher_and_made_once(
    context: HarnessContext, train: TrainSplit, workspace: Workspace, tmp_path: Path
) -> None:
    assert not context.teacher.training
    assert not any(p.requires_grad for p in context.teacher.parameters())
    chosen = np.array([3, 999, 1100])
    alone = context.predict(train.images(chosen))
    np.testing.assert_allclose(context.logits()[chosen], alone.numpy(), rtol=1e-4, atol=1e-4)
    features = context.features()
    assert features.shape[0] == context.logits().shape[0] == len(train)
    with pytest.raises(ValueError, match="read-only"):
        features[0, 0] = 1
    later = make_context(workspace, tmp_path)
    later.__dict__["teacher"] = None  # whoever asks for it again would fail
    assert np.array_equal(later.features(), features)
    assert np.array_equal(later.logits(), context.logits())


def test_soft_labels_are_deterministic_and_made_once_for_the_whole_split(
    context: HarnessContext, train: TrainSplit, workspace: Workspace, tmp_path: Path
) -> None:
    some = train.images(np.arange(7))
    first = context.soft_labels(some, 3)
    assert first.shape == (7, 3, 10)
    assert first.dtype == np.float16
    assert np.array_equal(first, make_context(workspace, tmp_path, replicate=1).soft_labels(some, 3))
    assert np.array_equal(first[:, :2], context.soft_labels(some, 2))
    assert not context.asked_for_randomness
    whole = context.soft_labels(None, 2)
    assert whole.shape == (len(train), 2, 10)
    later = make_context(workspace, tmp_path)
    later.__dict__["teacher"] = None
    assert np.array_equal(later.soft_labels(None, 2), whole)


def test_soft_labels_have_the_crops_and_the_mixing_that_are_asked_for(
    context: HarnessContext, train: TrainSplit
) -> None:
    some = train.images(np.arange(40))
    plain = context.soft_labels(some, 2)
    assert np.array_equal(plain, context.soft_labels(some, 2, crop_scale=0.4, cutmix=False))
    whole = context.soft_labels(some, 2, crop_scale=1.0)
    assert not np.array_equal(plain, whole)
    assert np.abs(whole[:, 0] - context.predict(some).numpy()).max() < 0.1  # the whole image; digits are not mirrored
    mixed = context.soft_labels(some, 2, cutmix=True)
    assert (mixed.argmax(-1) != plain.argmax(-1)).mean() > 0.2
    others = torch.cat([some[:1], train.images(np.arange(100, 139))])
    assert np.array_equal(context.soft_labels(others, 1)[0], plain[0, :1])
    assert not np.array_equal(context.soft_labels(others, 1, cutmix=True)[0], mixed[0, :1])  # other partners


def test_dynamics_of_more_epochs_begin_with_those_of_fewer(
    context: HarnessContext, workspace: Workspace, tmp_path: Path, train: TrainSplit
) -> None:
    two, three = context.dynamics(2), context.dynamics(3)
    assert three.shape == (3, len(train), 10)
    assert two.dtype == np.float16
    assert np.array_equal(three[:2], two)
    np.testing.assert_allclose(three.astype(np.float64).sum(axis=2), 1, atol=5e-3)
    correct = [(epoch.argmax(axis=1) == train.labels).mean() for epoch in three]
    assert correct[2] > correct[0] > 0.1
    again = make_context(workspace, tmp_path, root=tmp_path / "elsewhere").dynamics(2)
    assert np.array_equal(again, two)  # the same bits in another store


def test_the_provenance_tells_the_source_and_what_the_docstring_calls_deviations(train, tmp_path):
    source = '''
        """A method."""
        from bench.api import Condensed

        CITATION = "Somebody, Something, 2020."


        def synthesize(train, ipc, ctx, *, rate: float = 0.5):
            """Make images. Deviations: fewer steps than
            published; no mirroring.

            Args:
                rate: not a deviation.
            """
            labels = torch.arange(train.num_classes).repeat_interleave(ipc)
            shape = (len(labels), train.channels, train.size, train.size)
            return Condensed(torch.zeros(shape, dtype=torch.uint8), labels)
    '''
    spec = parse(
        discover([write(tmp_path / "told.py", source.replace("from bench", "import torch\n        from bench"))]),
        "method",
        "told",
    )
    assert build_condensed(spec, train, IPC, None).provenance == {
        "parameters": {"rate": 0.5},
        "source": "Somebody, Something, 2020.",
        "deviations": "fewer steps than published; no mirroring.",
    }
