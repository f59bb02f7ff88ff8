"""Label sets by the shard: those of a trial, of a file, of a network; and the verb that prints how they are kept."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from bench.artifacts.describe import describe
from bench.artifacts.refs import Workspace
from bench.artifacts.store import Store, read
from bench.cli import cli
from bench.errors import PluginError, UserError
from bench.labels.label_file import LabelFile
from bench.labels.reader import EncodedLabels
from bench.plugins.registry import discover
from bench.plugins.spec import parse
from bench.protocol.recipe import Augment
from bench.seeds import numpy_generator
from bench.stages.condense import condense
from bench.stages.encode import encode_labels
from bench.stages.teach import teach
from bench.studies.label_sets import label_sources
from bench.studies.label_sets.label_sources import BareContext, FileLabels, NetworkLabels, label
from bench.studies.label_sets.quality import qualities
from bench.studies.label_sets.trial_labels import trial_labels
from bench.teachers.ensemble import Member
from bench.trials.trial import Trial
from bench.views.parameters import Views
from bench.views.render import render


def logits(n: int = 6, k: int = 5, c: int = 8, dtype: type = np.float16) -> np.ndarray:
    return (3 * numpy_generator("label sets", n, k, c).standard_normal((n, k, c))).astype(dtype)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["labels", *arguments])


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("store"), discover())


# --- labels of a trial -----------------------------------------------------------------------------------------------


def test_labels_of_a_data_set_are_those_that_its_trials_encode(digits: Workspace) -> None:
    found = trial_labels(digits, "digits", "small-soft-v1", "random", 1)
    assert found.shape == (10, 100, 10)
    spec = parse(digits.registry, "compressor", "svd")
    [quality] = qualities(found, [(spec, "5x")]).qualities
    dataset = describe(digits, "digits")
    teacher = teach(digits, "small-teacher-v1", dataset)
    condensed = condense(digits, "random", dataset, teacher, 1, 0)
    trial = Trial("digits", "small-soft-v1", "random", 1, "svd", "5x", "convnet:width=16", 0)
    (stored,) = encode_labels(digits, trial, dataset, [teacher], condensed, [0])
    arrays = read(digits.store.root / stored.address).arrays
    file = LabelFile(arrays["views"].tobytes(), arrays["shared"].tobytes(), (arrays["blob"].tobytes(),))
    assert quality.bytes["total"] == file.sizes()["total"]
    assert quality.bytes["payload"] == file.sizes()["blobs"]
    reader = EncodedLabels(file, spec.plugin.module, 10, "svd")
    raw = next(iter(found.parts())).logits.double()
    kept = reader.rows(range(100)).double()
    p, q = (torch.log_softmax(z, -1) for z in (raw, kept))
    assert quality.kl1 == pytest.approx(float((p.exp() * (p - q)).sum(-1).mean()), rel=1e-6)


def test_a_protocol_that_stores_no_labels_is_refused(digits: Workspace) -> None:
    with pytest.raises(UserError, match=r"small-hard-v1: its labels are hard.*--protocol small-soft-v1"):
        trial_labels(digits, "digits", "small-hard-v1", "random", 1)


# --- labels in a file ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_file_is_read_shard_by_shard(
    save: object, dtype: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = logits(dtype=dtype)
    save(tmp_path / "set.npz", hard=np.arange(6), logits=values, other=np.zeros(3))  # type: ignore[operator]
    monkeypatch.setattr(label_sources, "shards", lambda *_: [np.arange(4), np.arange(4, 6)])
    found = FileLabels(tmp_path / "set.npz", Store(tmp_path))
    parts = list(found.parts())
    assert found.shape == (6, 5, 8)
    assert [len(part.logits) for part in parts] == [4, 2]
    assert np.array_equal(torch.cat([part.logits for part in parts]).numpy(), values)
    assert torch.cat([part.hard for part in parts]).tolist() == list(range(6))
    assert [part.images.tolist() for part in parts] == [[0, 1, 2, 3], [4, 5]]


@pytest.mark.parametrize("dtype", [">f2", ">f4"])
def test_a_file_of_another_machines_byte_order_holds_the_same_numbers(dtype: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", logits=logits().astype(dtype), hard=np.arange(6).astype(">i4"))
    [part] = FileLabels(tmp_path / "set.npz", Store(tmp_path)).parts()
    assert np.array_equal(part.logits.numpy(), logits().astype(dtype.replace(">", "<")))
    assert part.hard.tolist() == list(range(6))


def test_without_classes_an_image_has_that_of_its_largest_mean_logit(tmp_path: Path) -> None:
    values = logits()
    np.savez(tmp_path / "set.npz", logits=values)
    [part] = FileLabels(tmp_path / "set.npz", Store(tmp_path)).parts()
    assert part.hard.tolist() == values.astype(np.float64).mean(1).argmax(1).tolist()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": logits()}, "an array 'logits'"),
        ({"logits": logits()[0]}, r"float16 or float32 \[images, views, classes\].* float16 \[5, 8\]"),
        ({"logits": logits(dtype=np.float64)}, "float64"),
        ({"logits": np.asfortranarray(logits())}, "in Fortran order"),
        ({"logits": np.array([[["a"]]], dtype=object)}, "object"),
        ({"logits": logits(), "hard": np.arange(5)}, r"'hard' must be integers \[6\] within 0..7"),
        ({"logits": logits(), "hard": np.arange(6) + 3}, r"'hard' must be integers \[6\] within 0..7"),
        ({"logits": logits(), "hard": np.zeros(6)}, r"'hard' must be integers .* float64"),
    ],
)
def test_what_a_file_lacks_is_told(arrays: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(UserError, match=message):
        FileLabels(tmp_path / "set.npz", Store(tmp_path))


def test_a_file_that_is_no_archive_is_told(tmp_path: Path) -> None:
    (tmp_path / "set.npz").write_bytes(b"no zip file")
    with pytest.raises(UserError, match=r"not an \.npz file"):
        FileLabels(tmp_path / "set.npz", Store(tmp_path))
    with pytest.raises(UserError, match="there is no such file"):
        FileLabels(tmp_path / "none.npz", Store(tmp_path))


def test_a_compressor_without_a_data_set_draws_the_same_each_time_and_is_told_what_is_not_there(tmp_path: Path) -> None:
    first, again, other = (BareContext(tmp_path, "labels", name) for name in ("a", "a", "b"))
    assert first.numpy("views").random() == again.numpy("views").random() != other.numpy("views").random()
    assert torch.equal(torch.rand(3, generator=first.torch("x")), torch.rand(3, generator=again.torch("x")))
    with pytest.raises(PluginError, match=r"ctx\.features.*--dataset"):
        first.features()


# --- labels that a network makes -------------------------------------------------------------------------------------


def linear_teacher(classes: int, pixels: int = 2) -> Member:
    """A linear head on pooled pixels."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = torch.nn.Linear(3 * pixels**2, classes)
    pool = torch.nn.AdaptiveAvgPool2d(pixels)
    return Member(torch.nn.Sequential(pool, torch.nn.Flatten(), head).eval(), (0.5,) * 3, (0.25,) * 3)


def pictures(n: int, size: int = 16) -> torch.Tensor:
    return torch.from_numpy(numpy_generator("pictures", n).integers(0, 256, (n, 3, size, size), dtype=np.uint8))


def mixed_views(n: int, count: int, size: int = 16) -> Views:
    augment = Augment(crop_scale=(0.4, 1.0), flip=0.5, mix="cutmix")
    return Views(augment, n, size, mirror=True, batch=n, seed=1, count=count)


@pytest.mark.parametrize("indices", [np.arange(5), np.array([1, 2, 4]), np.array([3])])
def test_batches_do_not_change_what_a_network_says(indices: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    member, images, views = linear_teacher(7), pictures(5), mixed_views(5, 6)
    monkeypatch.setattr(label_sources, "_BATCH", {"cpu": 4})
    found = label(member, images, views, indices)
    with torch.no_grad():
        for place, image in enumerate(indices):
            for k in range(6):
                x = render(images, views[k], np.array([image]), mean=member.mean, std=member.std)
                assert found[place, k].numpy() == pytest.approx(member.model(x)[0].half().numpy(), abs=2e-3)


def test_a_survey_says_again_what_the_shards_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make() -> NetworkLabels:
        views = mixed_views(6, 5)
        return NetworkLabels("pictures", linear_teacher(7), pictures(6), torch.arange(6), views, 7, Store(tmp_path))

    assert make().survey is None  # one shard has them all
    monkeypatch.setattr(label_sources, "shard_sizes", lambda *_: [4, 2])
    monkeypatch.setattr(label_sources, "shards", lambda *_: iter([np.arange(4), np.arange(4, 6)]))
    made = make()
    assert made.survey is not None
    for whole, part in zip(made.parts(), made.survey([4, 1]), strict=True):
        assert torch.equal(part.logits, whole.logits[:, [4, 1]])
        assert torch.equal(part.hard, whole.hard)
        assert part.images is not None
        assert np.array_equal(part.images, whole.images)
        assert np.array_equal(part.views[1].partner, whole.views[1].partner)


def test_shards_that_are_kept_are_made_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    images, hard = pictures(4), torch.arange(4)

    def make(member: Member) -> NetworkLabels:
        return NetworkLabels("pictures", member, images, hard, mixed_views(4, 3), 7, store, made_from={"head": 1})

    first = make(linear_teacher(7))
    [part] = first.parts()
    silent = linear_teacher(7)
    torch.nn.init.zeros_(silent.model[2].weight)  # would say something else if it was asked
    second = make(silent)
    [again] = second.parts()
    assert torch.equal(part.logits, again.logits)
    assert first.label_seconds == second.label_seconds > 0
    assert torch.equal(again.hard, hard)


# --- the verb --------------------------------------------------------------------------------------------------------


def test_labels_prints_every_compressor_of_digits(digits: Workspace) -> None:
    store = str(digits.store.root)
    answer = run("--dataset", "digits", "--ipc", "1", "--budget", "4x", "--store", store, "--project", "50000")
    assert answer.exit_code == 0, answer.output
    assert "digits, labelled as small-soft-v1 does: 10 images x 100 views x 10 classes" in answer.output
    for name in discover().names("compressor"):
        assert re.search(rf"^{name} ", answer.output, re.MULTILINE), name
    assert re.search(r"^logits, each image +\d", answer.output, re.MULTILINE)
    assert "Extrapolated to 50,000 images" in answer.output


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("file") / "set.npz"
    np.savez(path, logits=logits(4, 12, 10))
    return path


def test_json_holds_everything_and_csv_the_compressors(file: Path, tmp_path: Path) -> None:
    common = ("--npz", str(file), "--compressor", "svd", "--compressor", "none", "--budget", "3x", "--budget", "99x")
    told = json.loads(run(*common, "--format", "json", "--project", "40", "--store", str(tmp_path)).output)
    assert told["labels"]["shape"] == [4, 12, 10]
    assert [(q["compressor"], q["budget"], q["status"]) for q in told["qualities"]] == [
        ("none", None, "ok"),
        ("svd", "3x", "ok"),
        ("svd", "99x", "infeasible"),
    ]
    assert told["spectrum"]["images"] == 4
    sizes = told["qualities"][1]["bytes"]
    projected = told["projection"]["of"][1]
    assert projected["bytes"] == 10 * (sizes["payload"] + sizes["container"])
    assert projected["encode_seconds_1"] == pytest.approx(told["qualities"][1]["encode_ms"] / 1e3 * 40)
    assert projected["encode_seconds_16"] == pytest.approx(projected["encode_seconds_1"] / 16)
    rows = list(csv.DictReader(io.StringIO(run(*common, "--format", "csv", "--store", str(tmp_path)).output)))
    assert [row["status"] for row in rows] == ["ok", "ok", "infeasible"]
    assert int(rows[1]["bytes_total"]) == sizes["total"]
    assert float(rows[1]["kl20"]) == told["qualities"][1]["kl20"]


def test_probabilities_that_were_none_are_told_under_the_table(file: Path, tmp_path: Path) -> None:
    spec = "svd:domain=probabilities,temperature=0.2"
    common = ("--npz", str(file), "--compressor", spec, "--budget", "3x", "--store", str(tmp_path))
    text = " ".join(run(*common).output.split())
    told = json.loads(run(*common, "--format", "json").output)["qualities"][0]
    values, rows = told["invalid_values"], told["invalid_rows"]
    assert values > 0
    assert f"{values:,} ({values / 480:.2%}) came out negative, and {rows:,} rows" in text
    [row] = csv.DictReader(io.StringIO(run(*common, "--format", "csv").output))
    assert (int(row["invalid_values"]), int(row["invalid_rows"])) == (values, rows)


def test_the_smallest_size_is_told_under_the_table(file: Path, tmp_path: Path) -> None:
    answer = run("--npz", str(file), "--compressor", "svd", "--budget", "90B", "--store", str(tmp_path))
    least = int(re.search(r"svd at 90B: infeasible, the smallest size is (\d+) B", answer.output)[1])
    again = run("--npz", str(file), "--compressor", "svd", "--budget", f"{least}B", "--store", str(tmp_path))
    assert (answer.exit_code, again.exit_code) == (0, 0)
    assert "infeasible" not in again.output
    assert "The parameters of the views are not in the file" in again.output


def test_markdown_is_a_table(file: Path, tmp_path: Path) -> None:
    lines = run("--npz", str(file), "--compressor", "none", "--format", "md", "--store", str(tmp_path)).output
    assert "| compressor" in lines
    assert re.search(r"^\| none +\| - +\|", lines, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Name one of --dataset NAME, --npz FILE and --photos; none was given"),
        (("--dataset", "digits", "--photos"), "--dataset and --photos were given"),
        (("--npz", "x.npz", "--ipc", "3"), "--ipc 3 belongs to --dataset; with --npz leave it out"),
        (("--dataset", "digits", "--views", "3"), "--views 3 belongs to --photos"),
        (("--npz", "{file}", "--budget", "3y"), "Budget '3y' is neither a ratio"),
        (("--npz", "{file}", "--compressor", "none", "--budget", "3x"), "none of none takes a budget"),
        (("--npz", "{file}", "--compressor", "sdv"), "Did you mean 'svd'"),
    ],
)
def test_mistakes_are_answered_with_what_to_type(
    arguments: tuple[str, ...], message: str, file: Path, tmp_path: Path
) -> None:
    answer = run(*(a.format(file=file) for a in arguments), "--store", str(tmp_path))
    assert isinstance(answer.exception, UserError)
    assert message in str(answer.exception)
