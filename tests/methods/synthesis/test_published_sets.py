"""Sets go in as their authors publish them, without conversion: archives, parquet, .pt files of five authors, npz."""

from __future__ import annotations

import io
import re
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from bench.errors import UserError
from bench.plugins.registry import discover
from bench.plugins.spec import parse
from bench.strangers import content_digest
from methods._published.tensor_files import UNDO
from methods.synthesis import folder
from tests.methods.synthesis.test_folder import IPC, chosen, save_tree
from tests.worlds import ROOT
from tests.worlds.fakes import digits, digits_context
from tests.worlds.published_sets import pictures, publish

LEVELS, LABELS = chosen()
MEAN, STD = UNDO["mnist"]


def normalised() -> torch.Tensor:
    """The digits as DC's code would have them: float32, normalised, then moved beyond black and white."""
    images = (torch.from_numpy(LEVELS).float() / 255 - MEAN[0]) / STD[0]
    return images + 0.4 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))


def read(path: Path, ipc: int = IPC, **options: Any) -> Any:
    return folder.synthesize(digits(), ipc, digits_context(), path=str(path), **{"order": "trust", **options})


def encoded(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image[0]).save(file, "PNG")
    return file.getvalue()


# --- trees in archives (SRe2L, RDED, D4M)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
@pytest.mark.parametrize("wrapped", ["", "rded/ipc3/"])
def test_an_archive_gives_the_images_of_the_tree_that_it_holds(tmp_path: Path, mode: str, wrapped: str) -> None:
    tree = save_tree(tmp_path / "set", LEVELS, LABELS)
    file = tmp_path / ("set.zip" if mode == "zip" else "set.tar")
    if mode == "zip":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
            for path in sorted(tree.rglob("*.png")):
                packed.write(path, wrapped + path.relative_to(tree).as_posix())
    else:
        with tarfile.open(file, mode) as archive:  # type: ignore[call-overload]
            archive.add(tree, wrapped or ".")
    made = read(file)
    assert np.array_equal(made.images.numpy(), LEVELS)
    assert made.images.dtype == torch.uint8
    assert made.labels.tolist() == LABELS.tolist()
    assert made.provenance["digest"] == content_digest(file)


def test_what_a_file_manager_leaves_behind_is_neither_an_image_nor_a_class(tmp_path: Path) -> None:
    tree = save_tree(tmp_path / "set", LEVELS, LABELS)
    before = content_digest(tree)
    (tree / "__MACOSX").mkdir()
    for folder_ in [tree, *tree.glob("0*")]:
        (folder_ / ".DS_Store").write_bytes(b"junk")
        (folder_ / "._000.png").write_bytes(b"junk")
        (folder_ / "Thumbs.db").write_bytes(b"junk")
    assert np.array_equal(read(tree).images.numpy(), LEVELS)
    assert content_digest(tree) == before


def test_subfolders_of_a_class_belong_to_it_as_in_imagefolder(tmp_path: Path) -> None:
    tree = save_tree(tmp_path / "set", LEVELS, LABELS)
    (tree / "004" / "more").mkdir()
    (tree / "004" / "012.png").rename(tree / "004" / "more" / "012.png")
    made = read(tree)
    assert {image.tobytes() for image in made.images.numpy()} == {image.tobytes() for image in LEVELS}


# --- parquet (Hugging Face)


def save_parquet(
    file: Path, images: list[Any], classes: list[Any], names: tuple[str, str] = ("image", "class_id")
) -> Path:
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(arrow.table({names[0]: images, names[1]: classes}), file, row_group_size=7)
    return file


def cells(rows: np.ndarray) -> list[dict[str, Any]]:
    return [{"bytes": encoded(LEVELS[row]), "path": f"/nowhere/{row}.png"} for row in rows]


def test_parquet_files_as_hugging_face_has_them(tmp_path: Path) -> None:
    mixed = np.random.default_rng(0).permutation(len(LABELS))
    one = save_parquet(tmp_path / "set.parquet", cells(mixed), LABELS[mixed].tolist())
    made = read(one)
    assert made.labels.tolist() == LABELS.tolist()
    assert {image.tobytes() for image in made.images.numpy()} == {image.tobytes() for image in LEVELS}
    for part, rows in enumerate((mixed[:11], mixed[11:])):  # a repository: its files lie below data/
        name = tmp_path / f"repository/data/train-0000{part}-of-00002.parquet"
        save_parquet(name, [each["bytes"] for each in cells(rows)], LABELS[rows].tolist(), ("img", "label"))
    (tmp_path / "repository" / "README.md").write_text("# A set")
    assert torch.equal(read(tmp_path / "repository").images, made.images)


def test_classes_that_have_names_are_sorted_or_listed(tmp_path: Path) -> None:
    names = [f"n0{9 - label}" for label in range(10)]
    file = save_parquet(tmp_path / "set.parquet", cells(np.arange(30)), [names[label] for label in LABELS])
    assert read(file).images[0].numpy().tobytes() == LEVELS[27].tobytes()
    (tmp_path / "classes.txt").write_text("\ufeff" + "\r\n".join(names), encoding="utf-8")
    assert np.array_equal(read(file, classes=str(tmp_path / "classes.txt"), order="check").images.numpy(), LEVELS)


@pytest.mark.parametrize(
    ("images", "classes", "names", "message"),
    [
        ([b"x"] * 10, list(range(10)), ("pixels", "class_id"), "has columns pixels, class_id; one of image, img"),
        ([b"x"] * 10, list(range(10)), ("image", "wnid"), "one of class_id, label"),
        (
            [{"bytes": None, "path": "/etc/passwd"}] * 10,
            list(range(10)),
            ("image", "label"),
            "row 0: the image has no byt",
        ),
        ([b"x"] * 10, [1.5] * 10, ("image", "label"), "classes must be whole numbers or names"),
        ([b"x"] * 10, list(range(1, 11)), ("image", "label"), r"labels lie in 1\.\.10"),
        ([b"x"] * 10, list(range(10)), ("image", "label"), "row 0 cannot be read as an image: cannot identify"),
    ],
)
def test_parquet_files_of_another_kind_are_refused(
    tmp_path: Path, images: list[Any], classes: list[Any], names: tuple[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read(save_parquet(tmp_path / "set.parquet", images, classes, names), 1)


def test_what_is_no_parquet_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set.parquet").write_bytes(b"PAR1 nothing of the kind PAR1")
    with pytest.raises(UserError, match=r"set\.parquet cannot be read as a parquet file"):
        read(tmp_path / "set.parquet")


# --- tensors (DC, DSA, DM, MTT, IDC)


def in_levels(images: torch.Tensor) -> torch.Tensor:
    return 255 * (images * STD[0] + MEAN[0])


def test_dc_files_hold_a_set_for_each_experiment(tmp_path: Path) -> None:
    first, second = normalised(), normalised() + 0.01
    accuracies = {"ConvNet": [np.float64(0.91), np.float64(0.92)]}
    data = [[first, torch.from_numpy(LABELS)], [second, torch.from_numpy(LABELS)]]
    file = tmp_path / "res_DC_MNIST_ConvNet_3ipc.pt"
    torch.save({"data": data, "accs_all_exps": accuracies}, file)
    for experiment, images in enumerate((first, second)):
        made = read(file, undo="mnist", experiment=experiment)
        assert made.images.dtype == torch.float32
        assert torch.allclose(made.images, in_levels(images), atol=1e-3)
        assert float(made.images.min()) < -10  # neither rounded nor clipped
        assert not torch.equal(made.images, made.images.round())
    with pytest.raises(UserError, match=r"experiment=2: .* holds 2, numbered 0 to 1"):
        read(file, undo="mnist", experiment=2)


def test_mtt_labels_lie_beside_the_images_and_belong_to_the_content(tmp_path: Path) -> None:
    mixed = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    images, labels = normalised()[mixed], torch.from_numpy(LABELS)[mixed]
    torch.save(images, tmp_path / "images_best.pt")
    with pytest.raises(UserError, match=r"Labels .* are looked for beside images_NAME\.pt, as labels_NAME\.pt"):
        read(tmp_path / "images_best.pt", undo="mnist")
    torch.save(labels, tmp_path / "labels_best.pt")
    made = read(tmp_path / "images_best.pt", undo="mnist")
    order = torch.argsort(labels, stable=True)
    assert torch.allclose(made.images, in_levels(images[order]), atol=1e-3)
    assert made.labels.tolist() == LABELS.tolist()
    before = content_digest(tmp_path / "images_best.pt")
    torch.save(labels.roll(1), tmp_path / "labels_best.pt")
    assert content_digest(tmp_path / "images_best.pt") != before


def test_idc_pixels_lie_between_0_and_1(tmp_path: Path) -> None:
    unit = torch.from_numpy(LEVELS).float() / 255
    torch.save([unit, torch.from_numpy(LABELS)], tmp_path / "data.pt")
    made = read(tmp_path / "data.pt", undo="unit")
    assert torch.allclose(made.images, torch.from_numpy(LEVELS).float(), atol=1e-4)
    with pytest.raises(UserError, match=r"floats from 0 to 1\. Say what they were normalised with.*undo=NAME"):
        read(tmp_path / "data.pt")


@pytest.mark.parametrize("kind", ["npz", "big-endian npz", "fortran npz", "safetensors", "half", "double"])
def test_arrays_of_any_type_and_byte_order_come_back_alike(tmp_path: Path, kind: str) -> None:
    floats = normalised().numpy()
    file = tmp_path / ("set.npz" if "npz" in kind else "set.safetensors")
    if "npz" in kind:
        stored = floats.astype(">f4") if "big" in kind else np.asfortranarray(floats) if "fortran" in kind else floats
        np.savez_compressed(file, images=stored, labels=LABELS.astype(">i8" if "big" in kind else "<i4"))
    else:
        stored = torch.from_numpy(floats).to({"half": torch.float16, "double": torch.float64}.get(kind, torch.float32))
        save_file({"images": stored, "labels": torch.from_numpy(LABELS)}, file)
    made = read(file, undo="mnist")
    assert made.images.dtype == torch.float32
    assert torch.allclose(made.images, in_levels(normalised()), atol=0.2 if kind == "half" else 1e-3)


def test_constants_can_be_typed_for_every_channel(tmp_path: Path) -> None:
    torch.save([normalised(), torch.from_numpy(LABELS)], tmp_path / "data.pt")
    named, typed = (read(tmp_path / "data.pt", undo=undo) for undo in ("mnist", "0.1307/0.3081"))
    assert torch.equal(named.images, typed.images)
    with pytest.raises(UserError, match="images have 1 channels; undo=cifar10 has constants of 3"):
        read(tmp_path / "data.pt", undo="cifar10")
    for wrong in ("0.5/0", "0.5/0.1/0.2", "0.5+0.5/0.1", "nan/1", "/"):
        with pytest.raises(UserError, match="allowed: mnist"):
            read(tmp_path / "data.pt", undo=wrong)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(30, 1, 8, 8)], "one of each, are needed"),
        ([torch.zeros(30, 1, 8, 8), torch.zeros(30)], "one of each, are needed"),
        ([torch.zeros(30, 8, 8), torch.arange(30)], "one of each, are needed"),
        ([torch.zeros(29, 1, 8, 8), torch.from_numpy(LABELS)], r"labels must be whole numbers \[29\]"),
        ([torch.zeros(30, 3, 8, 8), torch.from_numpy(LABELS)], r"image 0 is \[3, 8, 8\] of float32"),
        ([torch.zeros(30, 1, 9, 9), torch.from_numpy(LABELS)], r"image 0 is \[1, 9, 9\] of float32"),
        ([torch.zeros(30, 1, 0, 8), torch.from_numpy(LABELS)], "a side of 0 pixels"),
        ([torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64)], "holds no image"),
        ({"data": [["images", "labels"]]}, "one of each, are needed"),
    ],
)
def test_tensors_that_are_no_set_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "data.pt")
    with pytest.raises(UserError, match=message):
        read(tmp_path / "data.pt", undo="levels")


def test_undo_is_for_floats_alone(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=LEVELS, labels=LABELS)
    assert np.array_equal(read(tmp_path / "set.npz").images.numpy(), LEVELS)
    with pytest.raises(UserError, match="undo=mnist is for floats"):
        read(tmp_path / "set.npz", undo="mnist")
    with pytest.raises(UserError, match="undo=mnist is for tensors"):
        read(save_tree(tmp_path / "tree", LEVELS, LABELS), undo="mnist")


# --- the page


class AnyTrain:
    """Shapes of CIFAR-10; the method looks at nothing else."""

    num_classes, channels, size = 10, 3, 32


class AnyContext:
    """A teacher that takes everything for class 0."""

    @staticmethod
    def predict(images: torch.Tensor) -> torch.Tensor:
        return torch.eye(10)[torch.zeros(len(images), dtype=torch.int64)]


def specs_on_the_page() -> list[str]:
    text = (ROOT / "docs" / "published-sets.md").read_text(encoding="utf-8")
    return re.findall(r"--method (folder:\S+)", text)


def test_every_set_of_the_page_is_read_as_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    publish(tmp_path / "sets")
    monkeypatch.chdir(tmp_path)
    images, labels = pictures()
    specs = specs_on_the_page()
    assert len(specs) == 7
    for text in specs:
        spec = parse(discover(), "method", text)
        made = folder.synthesize(AnyTrain(), 10, AnyContext(), **spec.parameters)  # type: ignore[arg-type]
        assert made.labels.tolist() == labels.tolist()
        assert np.abs(made.images.numpy().astype(np.float64) - images).max() < 1e-3, text
        assert made.images.dtype == (torch.float32 if "undo=" in text else torch.uint8)


# --- labels that were learnt with the images (MTT, TESLA, DATM)


def learnt(seed: int = 0) -> torch.Tensor:
    """Logits of which the class of each image has the largest."""
    noise = torch.randn(len(LABELS), 10, generator=torch.Generator().manual_seed(seed))
    return noise + 8 * torch.nn.functional.one_hot(torch.from_numpy(LABELS), 10)


def publish_learnt(folder: Path, soft: torch.Tensor, images: torch.Tensor | None = None) -> Path:
    torch.save(normalised() if images is None else images, folder / "images_best.pt")
    torch.save(soft, folder / "labels_best.pt")
    return folder / "images_best.pt"


def test_learnt_labels_beside_the_images_are_handed_in_and_tell_the_classes(tmp_path: Path) -> None:
    order = torch.randperm(len(LABELS), generator=torch.Generator().manual_seed(1))
    made = read(publish_learnt(tmp_path, learnt()[order], normalised()[order]), undo="mnist")
    assert made.labels.tolist() == LABELS.tolist()
    assert torch.equal(made.soft_labels.argmax(dim=1), made.labels)
    assert sorted(map(tuple, made.soft_labels.tolist())) == sorted(map(tuple, learnt().tolist()))


def test_where_learnt_labels_contradict_the_sizes_of_classes_images_stand_class_after_class(tmp_path: Path) -> None:
    soft = learnt()
    soft[0] = soft[-1]  # the first image looks like the last class
    made = read(publish_learnt(tmp_path, soft), undo="mnist")
    assert made.labels.tolist() == LABELS.tolist()
    assert torch.equal(made.soft_labels, soft)


def test_safetensors_may_hold_both_kinds_of_labels(tmp_path: Path) -> None:
    tensors = {"images": torch.from_numpy(LEVELS), "labels": torch.from_numpy(LABELS), "soft_labels": learnt()}
    save_file(tensors, tmp_path / "set.safetensors")
    made = read(tmp_path / "set.safetensors")
    assert made.labels.tolist() == LABELS.tolist()
    assert torch.equal(made.soft_labels, learnt())
    save_file({name: tensors[name] for name in ("images", "labels")}, tmp_path / "plain.safetensors")
    assert read(tmp_path / "plain.safetensors").soft_labels is None


def test_probabilities_are_handed_in_as_logarithms_once_they_are_named(tmp_path: Path) -> None:
    probabilities = (4 * learnt()).softmax(dim=1)
    probabilities[0] = torch.nn.functional.one_hot(torch.tensor(0), 10)
    path = publish_learnt(tmp_path, probabilities)
    with pytest.raises(UserError, match="are probabilities: type soft=probabilities"):
        read(path, undo="mnist")
    made = read(path, undo="mnist", soft="probabilities")
    assert torch.allclose(made.soft_labels.softmax(dim=1), probabilities, atol=1e-6)
    assert bool(made.soft_labels.isfinite().all())
    assert torch.equal(read(path, undo="mnist", soft="values").soft_labels, probabilities)
    with pytest.raises(UserError, match=r"learnt labels of .* are none"):
        read(publish_learnt(tmp_path, learnt()), undo="mnist", soft="probabilities")


@pytest.mark.parametrize(
    ("soft", "told"),
    [
        (torch.zeros(len(LABELS), 7), r"learnt labels must be floats \[30, 10\]; they are float32 \[30, 7\]"),
        (torch.full((len(LABELS), 10), float("nan")), "learnt labels that are not finite"),
    ],
)
def test_learnt_labels_that_are_none_are_refused(tmp_path: Path, soft: torch.Tensor, told: str) -> None:
    with pytest.raises(UserError, match=told):
        read(publish_learnt(tmp_path, soft), undo="mnist")
