"""The field's data sets are read from the formats in which they are published, wherever they lie."""

from __future__ import annotations

import gzip
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from bench.artifacts.describe import describe, find_dataset
from bench.artifacts.opened import Data
from bench.artifacts.refs import Workspace
from bench.errors import UserError
from bench.places import INSTALLED, VARIABLE
from bench.plugins.registry import discover
from bench.plugins.spec import parse
from protocols.datasets._arrays import read_digests
from protocols.datasets._matlab import read_arrays
from protocols.datasets._published import IDC_100, SETS
from tests.worlds import published_files as files

REGISTRY = discover()
WOOF = ["n02086240", "n02087394", "n02088364", "n02089973", "n02093754",
        "n02096294", "n02099601", "n02105641", "n02111889", "n02115641"]  # fmt: skip


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder that is looked in."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv(VARIABLE, str(folder))
    monkeypatch.setattr("bench.places.INSTALLED", ())
    return folder


def opened(text: str, root: Path) -> Data:
    return Data(parse(REGISTRY, "dataset", text), root / "cache")


def everything(source) -> np.ndarray:
    return source.read(np.arange(len(source)))


# --- arrays -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["", "mnist", "MNIST/raw", "mnist/MNIST/raw"])
@pytest.mark.parametrize("packed", [True, False])
def test_mnist_is_read_from_idx_files_packed_or_not(place: str, packed: bool, data: Path, tmp_path: Path) -> None:
    held = files.mnist(data / place, packed=packed)
    set_ = opened("mnist", tmp_path)
    train, (images, labels) = set_.dataset.train(), set_.test_images()
    assert (everything(train)[:, 0] == held["train-images-idx3-ubyte"]).all()
    assert (train.labels == held["train-labels-idx1-ubyte"]).all()
    assert (images[:, 0].numpy() == held["t10k-images-idx3-ubyte"]).all()
    assert (labels.numpy() == held["t10k-labels-idx1-ubyte"]).all()
    assert not set_.dataset.mirror


def test_a_file_that_was_cut_off_or_is_another_is_named(data: Path, tmp_path: Path) -> None:
    files.mnist(data)
    images, labels = data / "train-images-idx3-ubyte.gz", data / "train-labels-idx1-ubyte.gz"
    whole = images.read_bytes()
    for content, message in [
        (whole[:-20], "no whole gzip file"),
        (b"no gzip", "no whole gzip file"),
        (gzip.compress(gzip.decompress(whole)[:-1]), "it was cut off"),
        (labels.read_bytes(), "no idx file of bytes with 3 dimensions"),
        (gzip.compress(files.idx(files.drawn(19, 28, 28))), "19 images"),
        (gzip.compress(bytes((0, 0, 8, 3, 0, 0))), "no idx file of bytes with 3 dimensions"),
        (gzip.compress(bytes((0, 0, 8, 3)) + b"\xff\xff\xff\xff" * 3), "it was cut off"),
    ]:
        images.write_bytes(content)
        with pytest.raises(UserError, match=message) as error:
            _ = opened("mnist", tmp_path).train
        assert str(images) in str(error.value)


def test_cifar10_is_the_same_from_both_of_its_versions(data: Path, tmp_path: Path) -> None:
    digests = []
    for version in ("binary", "python"):
        for part in (*range(1, 6), 0):
            pixels, labels = files.cifar_rows(20, 10, seed=part)
            if version == "binary":
                name = f"data_batch_{part}.bin" if part else "test_batch.bin"
                files.cifar_binary(data / "cifar-10-batches-bin" / name, pixels, labels)
            else:
                name = f"data_batch_{part}" if part else "test_batch"
                files.cifar_pickle(data / "cifar-10-batches-py" / name, pixels, labels=labels)
        set_ = opened("cifar10", tmp_path)
        assert set_.dataset.folder is not None
        assert set_.dataset.folder.name == {"binary": "cifar-10-batches-bin", "python": "cifar-10-batches-py"}[version]
        digests.append(set_.digests())
        assert (len(set_.train), len(set_.test_images()[0])) == (100, 20)
        first = everything(set_.dataset.train())[0]
        assert (first.reshape(-1) == files.cifar_rows(20, 10, seed=1)[0][0]).all()  # red, then green, then blue
        if version == "binary":
            shutil.rmtree(data / "cifar-10-batches-bin")
    assert digests[0] == digests[1]


def test_cifar100_has_its_fine_labels(data: Path, tmp_path: Path) -> None:
    digests = []
    for version in ("binary", "python"):
        for name, seed in (("train", 1), ("test", 2)):
            pixels, fine = files.cifar_rows(200, 100, seed)
            coarse = (fine // 5).astype(np.uint8)
            if version == "binary":
                files.cifar_binary(data / "cifar-100-binary" / f"{name}.bin", pixels, coarse, fine)
            else:
                files.cifar_pickle(data / "cifar-100-python" / name, pixels, coarse_labels=coarse, fine_labels=fine)
                (data / "cifar-100-python" / "meta").touch()
        set_ = opened("cifar100", tmp_path)
        assert set_.train.labels[:3].tolist() == [0, 1, 2]
        digests.append(set_.digests())
        if version == "binary":
            shutil.rmtree(data / "cifar-100-binary")
    assert digests[0] == digests[1]


def test_files_of_cifar100_are_not_read_as_cifar10(data: Path, tmp_path: Path) -> None:
    pixels, fine = files.cifar_rows(200, 100, 1)
    for name in (*(f"data_batch_{part}.bin" for part in range(1, 6)), "test_batch.bin"):
        files.cifar_binary(data / name, pixels, fine, fine)
    with pytest.raises(UserError, match=r"'cifar10' cannot be read from .*data_batch_1.bin: 614,800 bytes"):
        _ = opened("cifar10", tmp_path).train
    for name in (*(f"data_batch_{part}" for part in range(1, 6)), "test_batch"):
        files.cifar_pickle(data / "cifar-10-batches-py" / name, pixels, fine_labels=fine)
        (data / f"{name}.bin").unlink()
    with pytest.raises(UserError, match="it holds data, fine_labels, and no labels"):
        _ = opened("cifar10", tmp_path).train


class Harm:
    """What a stranger could put into a pickle."""

    def __reduce__(self):
        return Path.touch, (Path("harm"),)


def test_nothing_that_a_pickle_names_is_run(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (*(f"data_batch_{part}" for part in range(1, 6)), "test_batch"):
        (data / name).write_bytes(pickle.dumps({b"data": Harm(), b"labels": [0]}, protocol=2))
    with pytest.raises(UserError, match="no batch of CIFAR's Python version"):
        _ = opened("cifar10", tmp_path).train
    assert not (tmp_path / "harm").exists()
    pickle.loads(pickle.dumps(Harm()))
    assert (tmp_path / "harm").exists()  # the ordinary reader would have run it


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x02]r\xff\xff\xff\x7f.", "it holds the number 2147483647"),  # a table of 34 GB, if it were read
        (pickle.dumps({b"data": 1, b"labels": [300]}), "no batch of CIFAR's Python version"),
        (pickle.dumps({b"labels": [0]}), "it holds labels, and no labels"),
        (b"", "no batch of CIFAR's Python version"),
    ],
)
def test_a_batch_that_is_none_is_one_sentence(content: bytes, message: str, data: Path, tmp_path: Path) -> None:
    for name in (*(f"data_batch_{part}" for part in range(1, 6)), "test_batch"):
        (data / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        _ = opened("cifar10", tmp_path).train


def test_a_packed_file_that_would_unpack_without_bounds_is_refused(data: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("bench.foreign.bounds.FREE_BYTES", 1000)
    files.mnist(data)
    file = data / "train-images-idx3-ubyte.gz"
    file.write_bytes(gzip.compress(bytes(10**6)))
    with pytest.raises(UserError, match=r"ubyte\.gz would unpack to more than"):
        _ = opened("mnist", tmp_path).train


def test_a_pipe_is_not_waited_for(data: Path, tmp_path: Path) -> None:
    files.mnist(data, packed=False)
    pipe = data / "t10k-labels-idx1-ubyte"
    pipe.unlink()
    os.mkfifo(pipe)
    with pytest.raises(UserError, match="is a pipe"):
        opened("mnist", tmp_path).test_images()


def test_svhn_counts_zero_as_ten_and_turns_its_axes(data: Path, tmp_path: Path) -> None:
    pixels = files.drawn(32, 32, 3, 20)
    for name in ("train_32x32.mat", "test_32x32.mat"):
        savemat(data / name, {"X": pixels, "y": (np.arange(20) % 10 + 1).astype(np.uint8)[:, None]})
    train = opened("svhn", tmp_path).dataset.train()
    assert train.labels[:10].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert (everything(train)[3] == pixels[..., 3].transpose(2, 0, 1)).all()
    whole = (data / "train_32x32.mat").read_bytes()
    for damaged in (b"no file of MATLAB", whole[:1000], b""):
        (data / "train_32x32.mat").write_bytes(damaged)
        with pytest.raises(UserError, match=r"train_32x32\.mat is no file of SVHN"):
            _ = opened("svhn", tmp_path).train
    (data / "train_32x32.mat").write_bytes(b"no file of MATLAB")
    with pytest.raises(UserError, match=r"train_32x32\.mat is no file of SVHN"):
        _ = opened("svhn", tmp_path).train


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int32, np.int64, np.float32, np.float64])
def test_matlab_files_are_read_as_scipy_reads_them(kind: type, packed: bool, tmp_path: Path) -> None:
    values = {"X": files.drawn(4, 3, 2, 5).astype(kind), "y": np.arange(3, dtype=kind)[:, None], "a": np.zeros((0, 2))}
    others = {"text": "a text", "z": np.array([1j]), "cell": np.array([1, "a"], object), "s": {"field": 1.0}}
    savemat(tmp_path / "a.mat", {**others, **values}, do_compression=packed)
    read = read_arrays(tmp_path / "a.mat")
    assert read.keys() == values.keys()
    for name, theirs in loadmat(tmp_path / "a.mat", variable_names=list(values)).items():
        if name in values:
            assert (read[name].shape, read[name].dtype) == (theirs.shape, theirs.dtype)
            assert (read[name] == theirs).all()


def test_a_matlab_file_that_would_unpack_without_bounds_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("bench.foreign.bounds.FREE_BYTES", 1000)
    savemat(tmp_path / "a.mat", {"X": np.zeros(10**6)}, do_compression=True)
    with pytest.raises(UserError, match=r"a\.mat would unpack to more than"):
        read_arrays(tmp_path / "a.mat")


# --- photographs ------------------------------------------------------------------------------------------------------


def test_tiny_imagenet_is_read_with_the_annotations_of_its_validation_images(data: Path, tmp_path: Path) -> None:
    files.tiny_imagenet(data / "tiny-imagenet-200", ["n03", "n01", "n02"])
    set_ = opened("tiny-imagenet", tmp_path)
    assert set_.dataset.class_names == ("n01", "n02", "n03")
    assert set_.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    images, labels = set_.test_images()
    assert (tuple(images.shape), labels.tolist()) == ((3, 3, 64, 64), [1, 0, 2])  # the lines are in reverse
    grey = set_.train.images([7])[0]
    assert (grey[0] == grey[1]).all()


def test_tiny_imagenet_may_have_been_sorted_into_folders(data: Path, tmp_path: Path) -> None:
    folder = data / "tiny-imagenet-200"
    files.tiny_imagenet(folder, ["n01", "n02"])
    before = opened("tiny-imagenet", tmp_path).test_images()[1].tolist()
    for line in (folder / "val" / "val_annotations.txt").read_text().splitlines():
        file, wnid = line.split("\t")[:2]
        (folder / "val" / wnid / "images").mkdir(parents=True)
        (folder / "val" / "images" / file).rename(folder / "val" / wnid / "images" / file)
    (folder / "val" / "val_annotations.txt").unlink()
    (folder / "val" / "images").rmdir()
    assert sorted(before) == opened("tiny-imagenet", tmp_path).test_images()[1].tolist() == [0, 1]
    shutil.rmtree(folder / "val" / "n01")
    for target in (None, "val_annotations.txt", "x" * 300):  # a link to itself, and to a name that no disk takes
        if target:
            (folder / "val" / "val_annotations.txt").symlink_to(target)
        with pytest.raises(UserError, match=r"lacks .*val_annotations.txt"):
            opened("tiny-imagenet", tmp_path).test_images()
        (folder / "val" / "val_annotations.txt").unlink(missing_ok=True)


def test_imagenette_and_imagewoof_know_their_classes(data: Path, tmp_path: Path) -> None:
    files.tree(data / "imagewoof2", WOOF)
    set_ = opened("imagewoof", tmp_path)
    assert set_.dataset.class_names[:2] == ("Shih-Tzu", "Rhodesian ridgeback")
    assert tuple(set_.train.images([0, 29]).shape) == (2, 3, 224, 224)
    assert tuple(opened("imagewoof:resize=40,size=32", tmp_path).test_images()[0].shape) == (10, 3, 32, 32)


def test_the_folder_of_another_set_is_told(data: Path, tmp_path: Path) -> None:
    files.tree(data / "imagenette2", WOOF, train=1)
    with pytest.raises(
        UserError, match=r"'imagenette' was not found.*imagenette2/train lacks n01440764, so it is anoth"
    ):
        _ = opened("imagenette", tmp_path).dataset


def test_imagenet_10_and_100_are_the_first_classes_of_idcs_list(data: Path, tmp_path: Path) -> None:
    assert (len(IDC_100), len(set(IDC_100))) == (100, 100)
    files.tree(data / "imagenet", IDC_100, train=1)
    ten, hundred = opened("imagenet-10:size=32,resize=32", tmp_path), opened("imagenet-100", tmp_path)
    assert ten.dataset.class_names == hundred.dataset.class_names[:10]
    assert ten.dataset.class_names[0] == "n02869837"  # not the first by name
    assert ten.train.labels.tolist() == list(range(10))
    shutil.rmtree(data / "imagenet" / "val" / IDC_100[4])
    with pytest.raises(UserError, match=f"'imagenet-10' lacks images of the class {IDC_100[4]}"):
        ten.test_images()


def test_imagenet_1k_has_the_thousand_classes_in_the_order_of_their_ids(data: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        for wnid in ("n01440764", "n15075141"):
            (data / "ILSVRC" / "Data" / "CLS-LOC" / split / wnid).mkdir(parents=True)
    set_ = opened("imagenet-1k", tmp_path)
    names = set_.dataset.class_names
    assert (len(names), names[0], names[999]) == (1000, "n01440764", "n15075141")
    assert list(names) == sorted(names)
    with pytest.raises(UserError, match="'imagenet-1k' lacks images of the class n01440764"):
        _ = set_.train


def test_a_tree_of_ones_own(data: Path, tmp_path: Path) -> None:
    files.tree(data / "birds", ["wren", "owl", "jay"], val="test")
    (data / "birds" / "train" / "owl" / "._owl_0.JPEG").write_bytes(b"what macOS leaves")
    (data / "birds" / "train" / ".DS_Store").touch()
    whole = opened("imagefolder:of=birds,size=32,resize=32", tmp_path)
    assert whole.dataset.class_names == ("jay", "owl", "wren")
    assert len(whole.train) == 9
    (data / "birds" / "two.txt").write_text("wren\ta small bird\r\njay\n", encoding="utf-8-sig")
    part = opened("imagefolder:of=birds,classes=two.txt", tmp_path)
    assert part.dataset.class_names == ("a small bird", "jay")
    assert part.train.labels.tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("imagefolder", "Type imagefolder:of=NAME"),
        ("imagefolder:of=../up", "no name of a folder"),
        ("imagefolder:of=fish", "'imagefolder:of=fish' was not found"),
        ("imagefolder:of=birds,classes=none.txt", "classes=none.txt is no file in"),
        ("imagefolder:of=birds,classes=twice.txt", "twice.txt, line 2: two classes are named 'owl'"),
        ("imagefolder:of=birds,classes=renamed.txt", "renamed.txt, line 2: two classes are named 'owl'"),
        ("imagefolder:of=birds,classes=up.txt", r"up\.txt, line 1: '\.\./owl' is no name of a folder"),
        ("imagefolder:of=birds,classes=other.txt", r"other\.txt is no text file"),
        ("imagefolder:of=birds,classes=one.txt", "has 1 classes, and two are the least"),
        ("imagefolder:of=birds,size=300", "allowed: 0 < size <= resize"),
    ],
)
def test_what_is_no_tree_of_classes_is_refused_in_one_sentence(text: str, message: str, data: Path, tmp_path) -> None:
    files.tree(data / "birds", ["owl", "jay"], train=1)
    lists = {"twice": "owl\nowl\n", "renamed": "owl\njay\towl\n", "one": "owl\n", "up": "../owl\njay\n"}
    for name, lines in lists.items():
        (data / "birds" / f"{name}.txt").write_text(lines)
    (data / "birds" / "other.txt").write_text("\u00e9\u00e9", encoding="latin-1")
    with pytest.raises(UserError, match=message):
        _ = opened(text, tmp_path).dataset


# --- identity ---------------------------------------------------------------------------------------------------------


def test_where_the_data_lie_is_no_part_of_what_they_are(data: Path, tmp_path: Path, monkeypatch) -> None:
    files.tree(data / "birds", ["owl", "jay"])
    files.mnist(data / "mnist")
    ws = Workspace(tmp_path / "store", REGISTRY)
    before = [describe(ws, text) for text in ("mnist", "imagefolder:of=birds,size=32,resize=32")]
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(data, elsewhere, copy_function=shutil.copy)  # other times, other folder
    monkeypatch.setenv(VARIABLE, str(elsewhere))
    again = Workspace(tmp_path / "store", REGISTRY)
    assert [describe(again, ref.spec) for ref in before] == before


def test_an_exchanged_file_is_another_data_set_without_being_asked(data: Path, tmp_path: Path) -> None:
    files.tree(data / "birds", ["owl", "jay"])
    text = "imagefolder:of=birds,size=32,resize=32"
    before = describe(Workspace(tmp_path / "store", REGISTRY), text)
    assert find_dataset(Workspace(tmp_path / "store", REGISTRY), text) == before
    files.photograph(data / "birds" / "train" / "owl" / "owl_0.JPEG", 60, 50, seed=77)
    assert find_dataset(Workspace(tmp_path / "store", REGISTRY), text) is None
    after = describe(Workspace(tmp_path / "store", REGISTRY), text)
    assert after.train_digest != before.train_digest
    assert after.test_digest == before.test_digest


def test_a_training_file_that_is_also_a_test_file_is_counted(data: Path, tmp_path: Path) -> None:
    files.tree(data / "birds", ["owl", "jay"])
    shutil.copy(data / "birds" / "val" / "owl" / "owl_0.JPEG", data / "birds" / "train" / "owl" / "again.JPEG")
    ref = describe(Workspace(tmp_path / "store", REGISTRY), "imagefolder:of=birds,size=32,resize=32")
    assert ref.train_in_test == 1


# --- the real ones ----------------------------------------------------------------------------------------------------

FASHION = INSTALLED[0] / "fashion-mnist"


@pytest.mark.skipif(not FASHION.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_fashion_mnist_is_found_by_itself_and_is_the_published_one(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    set_ = opened("fashion-mnist", tmp_path)
    assert set_.dataset.folder == FASHION
    assert (len(set_.train), len(set_.test_images()[0])) == SETS["fashion-mnist"].images
    released = read_digests()["datasets"]["fashion-mnist"]
    assert set_.digests() == {split: released[split]["sha256"] for split in ("train", "test")}
    images = everything(set_.dataset.train())
    assert images.mean() / 255 == pytest.approx(set_.dataset.mean[0], abs=1e-4)
    assert images.std() / 255 == pytest.approx(set_.dataset.std[0], abs=1e-4)
    assert np.bincount(set_.train.labels).tolist() == [6000] * 10


@pytest.mark.skipif(not FASHION.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_fashion_mnist_is_not_taken_for_mnist(data: Path, tmp_path: Path) -> None:
    shutil.copytree(FASHION, data / "mnist")
    with pytest.raises(
        UserError, match=r"'mnist' cannot be read from .*train-labels-idx1-ubyte.gz, which is that of 'fa"
    ):
        _ = opened("mnist", tmp_path).train
