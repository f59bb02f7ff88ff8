"""Sets made elsewhere are read as they are, tied to their content, and refused where their classes are out of order."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from bench.checks.plugins import conduct, declared, methods
from bench.checks.plugins.kit import Check
from bench.checks.plugins.methods import MethodSubject
from bench.checks.plugins.workshop import workshop
from bench.errors import UserError
from bench.plugins.registry import discover
from bench.sources import Policy, decode
from bench.strangers import content_digest
from methods._class_order import class_order
from methods._stored_labels import describe, read_logits
from methods.synthesis import folder
from tests.worlds.fakes import digits, digits_context

IPC = 3


def chosen(ipc: int = IPC) -> tuple[np.ndarray, np.ndarray]:
    """Real digits: images uint8 [10 * ipc, 1, 8, 8] and labels."""
    train = digits()
    indices = np.concatenate([train.class_indices(label)[:ipc] for label in range(10)])
    return train.images(indices).numpy(), train.labels[indices]


def save_tree(root: Path, images: np.ndarray, labels: np.ndarray, names: list[str] | None = None) -> Path:
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        own = root / (names[label] if names else f"{label:03d}")
        own.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(own / f"{index:03d}.png")
    return root


def save_tensors(path: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    save_file({"images": np.ascontiguousarray(images), "labels": np.ascontiguousarray(labels)}, path)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return save_tree(tmp_path / "set", *chosen())


def digest_of(path: Path) -> str:
    return content_digest(path)[:12]


def read(path: Path, ipc: int = IPC, **options: str):
    options.setdefault("digest", digest_of(path))
    return folder.synthesize(digits(), ipc, digits_context(), path=str(path), **options)


# What is read


def test_a_tree_of_lossless_images_comes_back_to_the_pixel(tree):
    made = read(tree)
    images, labels = chosen()
    assert np.array_equal(made.images.numpy(), images)
    assert made.labels.tolist() == labels.tolist()
    assert made.provenance["digest"].startswith(digest_of(tree))
    assert made.provenance["teacher_top1"] > 0.9
    assert made.provenance["classes_out_of_order"] == []


def test_tensors_in_any_order_come_back_class_after_class(tmp_path):
    images, labels = chosen()
    mixed = np.random.default_rng(0).permutation(len(labels))
    made = read(save_tensors(tmp_path / "set.safetensors", images[mixed], labels[mixed]))
    assert made.labels.tolist() == labels.tolist()
    assert {image.tobytes() for image in made.images.numpy()} == {image.tobytes() for image in images}


def test_folders_named_by_numbers_are_sorted_as_numbers(tmp_path):
    images, labels = chosen(1)
    root = save_tree(tmp_path, images, labels, [str(9 + label) for label in range(10)])  # 9, 10, ..., 18
    assert np.array_equal(read(root, 1).images.numpy(), images)


def test_a_class_list_gives_the_order(tmp_path):
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    images, labels = chosen()
    root = save_tree(tmp_path / "set", images, labels, names)
    (tmp_path / "classes.txt").write_text("\n".join(names) + "\n")
    made = read(root, classes=str(tmp_path / "classes.txt"))
    assert np.array_equal(made.images.numpy(), images)


def test_larger_images_are_cut_to_their_centre_square_and_resized(tmp_path):
    wide = np.zeros((16, 48), np.uint8)
    wide[:, 16:32] = 200  # the centre square; its sides are black
    for label in range(10):
        (tmp_path / f"{label}").mkdir()
        Image.fromarray(wide).save(tmp_path / f"{label}" / "image.png")
    made = read(tmp_path, 1, order="trust")
    assert (made.images == 200).all()
    tensors = np.broadcast_to(wide[:, 16:32], (10, 1, 16, 16))
    same = read(save_tensors(tmp_path / "set.safetensors", tensors, np.arange(10)), 1, order="trust")
    assert torch.equal(made.images, same.images)


def test_colour_becomes_grey(tmp_path):
    for label in range(10):
        (tmp_path / f"{label}").mkdir()
        Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / f"{label}" / "red.png")
    assert (read(tmp_path, 1, order="trust").images == 76).all()  # 0.299 of 255


# The content belongs to the spec


def test_without_a_digest_the_content_is_recorded(tree):
    made = read(tree, digest="")
    assert made.provenance["digest"] == content_digest(tree)
    assert torch.equal(made.images, read(tree).images)


def test_a_postscript_file_under_the_name_of_an_image_starts_no_program(tree, tmp_path, monkeypatch):
    """Pillow hands PostScript to the program `gs`."""
    started, bin_ = tmp_path / "started", tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "gs").write_text(f"#!/bin/sh\ntouch {started}\n")
    (bin_ / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(bin_), prepend=os.pathsep)
    image = next((tree / "000").iterdir())
    image.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n")
    for read_file in (lambda: read(tree), lambda: decode(image, Policy(size=8, channels=1))):
        with pytest.raises(UserError, match=f"{image.name} cannot be read as an image"):
            read_file()
    assert not started.exists()


def test_a_changed_pixel_a_renamed_class_and_a_swap_change_the_digest(tree):
    before = digest_of(tree)
    image = Image.open(tree / "004" / "012.png")
    pixels = np.array(image)
    pixels[3, 3] ^= 1
    Image.fromarray(pixels).save(tree / "004" / "012.png")
    changed = digest_of(tree)
    (tree / "000").rename(tree / "00x")
    assert len({before, changed, digest_of(tree)}) == 3
    with pytest.raises(UserError, match=f"digest={before} is not that of .* type digest="):
        read(tree, digest=before)


def test_the_digest_is_that_of_the_content_and_not_of_the_place(tree, tmp_path):
    before = digest_of(tree)
    os.utime(tree / "000" / "000.png", (0, 0))
    tree.rename(tmp_path / "elsewhere")
    assert digest_of(tmp_path / "elsewhere") == before
    images, labels = chosen()
    one = save_tensors(tmp_path / "a.safetensors", images, labels)
    other = save_tensors(tmp_path / "b.safetensors", images, np.roll(labels, 1))
    assert digest_of(one) != digest_of(other)


# The order of the classes


def test_a_permuted_order_is_an_error_that_names_the_right_one(tmp_path):
    images, labels = chosen()
    permutation = np.random.default_rng(1).permutation(10)
    names = [f"c{permutation[label]}" for label in range(10)]  # sorted, they stand in another order
    root = save_tree(tmp_path / "set", images, labels, names)
    with pytest.raises(UserError, match="stand in another order") as refused:
        read(root)
    right = ", ".join(names)
    assert right in str(refused.value)
    assert "order=trust" in str(refused.value)
    (tmp_path / "classes.txt").write_text("\n".join(names))
    assert np.array_equal(read(root, classes=str(tmp_path / "classes.txt")).images.numpy(), images)
    trusted = read(root, order="trust")
    assert len(trusted.provenance["classes_out_of_order"]) >= 8
    assert trusted.provenance["teacher_top1"] < 0.3


def test_two_swapped_classes_are_found(tmp_path):
    images, labels = chosen()
    swapped = np.where(labels == 3, 8, np.where(labels == 8, 3, labels))
    with pytest.raises(UserError, match="images of class 3 look like class 8; images of class 8 look like class 3"):
        read(save_tensors(tmp_path / "set.safetensors", images, swapped))


def test_images_that_show_nothing_are_no_other_order():
    rng = np.random.default_rng(0)
    for ipc in (1, 10):
        for _ in range(200):
            assert not class_order(np.repeat(np.arange(10), ipc), rng.integers(0, 10, 10 * ipc), 10).permuted


def test_a_weak_teacher_and_classes_taken_for_one_another_now_and_then_are_no_other_order():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(20), 10)
    for share in (0.9, 0.6, 0.4):
        guesses = np.where(rng.random(200) < share, labels, labels ^ 1)  # the other of a pair
        assert not class_order(labels, guesses, 20).permuted or share < 0.5
    two = np.arange(10)
    assert not class_order(two, np.where(two < 2, 1 - two, two), 10).permuted  # one image each proves nothing


@pytest.mark.parametrize(("classes", "ipc", "right"), [(10, 1, 1.0), (10, 10, 0.7), (100, 1, 0.98), (100, 10, 0.6)])
def test_a_permutation_is_found_under_an_imperfect_teacher(classes, ipc, right):
    rng = np.random.default_rng(0)
    permutation = np.roll(np.arange(classes), 3)  # no class stays; with one image each, less would prove nothing
    labels = np.repeat(np.arange(classes), ipc)
    predicted = np.where(rng.random(len(labels)) < right, permutation[labels], rng.integers(0, classes, len(labels)))
    found = class_order(labels, predicted, classes)
    assert found.permuted
    assert (found.assignment == permutation).mean() > (0.8 if ipc == 1 else 0.99)
    assert found.best_agreement >= right - 0.1


def test_one_class_has_one_order():
    assert not class_order(np.zeros(5, int), np.zeros(5, int), 1).permuted


# Stored labels


def labels_of(batch: int, classes: int = 10) -> list:
    """A file of SRe2L's: coordinates, flips, CutMix partners, weight (a numpy number), box, logits."""
    lam = np.random.default_rng(batch).beta(1.0, 1.0)
    half = torch.zeros(batch, classes, dtype=torch.float16)
    return [
        torch.rand(batch, 4),
        torch.zeros(batch, dtype=torch.bool),
        torch.arange(batch),
        np.float64(lam),
        [0, 1, 2, 3],
        half,
    ]


def test_stored_labels_are_told_and_not_used(tree, tmp_path):
    for epoch in range(2):
        (tmp_path / f"fkd/epoch_{epoch}").mkdir(parents=True)
        torch.save(labels_of(16 + epoch), tmp_path / f"fkd/epoch_{epoch}/batch_0.tar")
    made = read(tree, labels=str(tmp_path / "fkd"))
    size = sum(path.stat().st_size for path in (tmp_path / "fkd").rglob("*.tar"))
    expected = {"files": 2, "bytes": size, "classes": 10, "dtype": "float16"}
    assert made.provenance["stored_labels_not_used"] == expected
    assert torch.equal(made.images, read(tree).images)


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (os.mkdir, (str(self.path),))


def test_a_label_file_with_code_is_refused_and_the_code_does_not_run(tmp_path):
    torch.save([torch.zeros(2, 10), Bomb(tmp_path / "ran")], tmp_path / "batch_0.tar")
    (tmp_path / "batch_1.tar").write_bytes(pickle.dumps([Bomb(tmp_path / "ran")]))
    for name in ("batch_0.tar", "batch_1.tar"):
        with pytest.raises(UserError, match="holds more than tensors and numbers; nothing of it was run"):
            read_logits(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as a label file"),
        (b"no label file", "nothing of it was run|cannot be read as a label file"),
        ([torch.arange(3)], "holds no logits"),
        (labels_of(4, 7), "logits of 7 classes; the data set has 10"),
        ([torch.full((2, 10), float("nan"))], "not finite"),
    ],
)
def test_label_files_that_cannot_be_of_this_data_set_are_refused(tmp_path, content, message):
    file = tmp_path / "batch_0.tar"
    file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
    with pytest.raises(UserError, match=message):
        describe(tmp_path, 10)


def test_a_folder_without_label_files_is_refused(tmp_path):
    with pytest.raises(UserError, match="no file of stored labels"):
        describe(tmp_path, 10)


# Errors


def test_wrong_counts_are_refused_with_the_ipc_that_fits(tree):
    with pytest.raises(
        UserError, match=r"class 0 \(000\) of .* has 3 images, ipc is 10; 10 classes differ\. .*--ipc 3"
    ):
        read(tree, 10)
    (tree / "004" / "012.png").unlink()
    with pytest.raises(UserError, match=r"class 4 \(004\) of .* has 2 images, ipc is 3\.$"):
        read(tree)


def test_a_missing_class_an_empty_one_and_an_unreadable_image_are_named(tree):
    (tree / "009" / "027.png").write_bytes(b"\x89PNG\r\n and no more")
    with pytest.raises(UserError, match=r"009/027\.png cannot be read as an image"):
        read(tree)
    for image in (tree / "009").iterdir():
        image.unlink()
    with pytest.raises(UserError, match=r"009 \(class 9\) holds no image"):
        read(tree)
    (tree / "009").rmdir()
    with pytest.raises(UserError, match=r"has 9 classes .* the data set has 10"):
        read(tree)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["000", "000"], "names 000 twice"),
        (["000", "cat"], "names cat, but .* has no such folder"),
        (["000", "001"], "has folders that .* does not name: 002, 003, 004, 005, 006 and 3 more"),
    ],
)
def test_a_class_list_that_does_not_fit_is_refused(tree, tmp_path, lines, message):
    (tmp_path / "classes.txt").write_text("\n".join(lines))
    with pytest.raises(UserError, match=message):
        read(tree, classes=str(tmp_path / "classes.txt"))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"pictures": np.zeros(1)}, "has no tensor 'images' and 'labels'; it has pictures"),
        ({"images": np.zeros((10, 1, 8, 8), np.float32), "labels": np.arange(10)}, "floats from 0 to 0.* undo=NAME"),
        ({"images": np.zeros((10, 1, 8, 8), np.int32), "labels": np.arange(10)}, "must be uint8 or floats .* int32"),
        ({"images": np.zeros((10, 1, 8, 8), np.uint8), "labels": np.zeros(10)}, "labels must be whole numbers"),
        ({"images": np.zeros((10, 1, 8, 8), np.uint8), "labels": np.arange(9)}, r"labels must be whole numbers \[10\]"),
        ({"images": np.zeros((10, 1, 8, 8), np.uint8), "labels": np.arange(10) + 1}, r"labels lie in 1\.\.10"),
        ({"images": np.zeros((10, 3, 8, 8), np.uint8), "labels": np.arange(10)}, r"image 0 is \[3, 8, 8\]"),
    ],
)
def test_tensors_of_another_kind_are_refused(tmp_path, tensors, message):
    save_file(tensors, tmp_path / "set.safetensors")
    with pytest.raises(UserError, match=message):
        read(tmp_path / "set.safetensors", 1)


def test_what_is_no_safetensors_file_is_refused(tmp_path):
    (tmp_path / "set.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match="cannot be read as a safetensors file"):
        read(tmp_path / "set.safetensors")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": ""}, "say where the set lies"),
        ({"path": "nowhere"}, "nowhere: there is no such file or folder"),
        ({"path": ".", "layout": "safetensors"}, "is a folder, but layout=safetensors"),
        ({"path": ".", "layout": "zip"}, "layout=zip; allowed: auto, tree, archive, parquet, pt, npz, safetensors"),
        ({"path": ".", "order": "maybe"}, "order=maybe; allowed: check, trust"),
        ({"path": ".", "digest": "latest"}, "digest=latest is none: 12 to 64 hexadecimal digits"),
        ({"path": ".", "undo": "cifar-10"}, "undo=cifar-10; allowed: mnist, .*cifar10.* undo=0.49[+]0.48[+]0.45/"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        folder.synthesize(digits(), 1, digits_context(), **options)


# The rules of every method, which `check plugins` cannot check without a set


@pytest.mark.parametrize(
    "check",
    [
        methods.keeps_the_contract,
        conduct.gives_the_same_twice,
        conduct.leaves_no_files,
        conduct.leaves_global_generators_alone,
        conduct.leaves_the_process_as_it_was,
        conduct.leaves_what_it_is_given_as_it_was,
        conduct.has_no_way_to_the_test_split,
        declared.mistyped_words_are_refused,
    ],
)
def test_a_set_keeps_the_rules_of_methods(check: Check, tmp_path):
    """`check plugins` hands ipc 1 in grey and colour to the contract, and ipc 2 to the rest."""
    one = check is methods.keeps_the_contract
    for label in range(3):
        (tmp_path / f"{label}").mkdir()
        for index in range(1 if one else methods.IPC):
            colour = np.random.default_rng([label, index]).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(colour).save(tmp_path / f"{label}" / f"{index}.png")
    subject = MethodSubject(discover().get("method", "folder"), workshop()).with_parameters(
        path=str(tmp_path), digest=digest_of(tmp_path), order="trust"
    )
    assert list(check(subject)) == []


@pytest.mark.parametrize("option", ["classes", "labels"])
def test_files_that_are_not_there_are_named(tree, option):
    with pytest.raises(UserError, match="nowhere: there is no such file or folder"):
        read(tree, **{option: "nowhere"})
