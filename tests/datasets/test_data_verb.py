"""`condensebench data`: what is here, how to get the rest, is it the published one; `--data` reaches the workers."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from urllib.error import URLError

import pytest
from click.testing import CliRunner
from torchvision.datasets import utils

from bench import places
from bench.cli import cli
from bench.driver.session import Session, place_data_of
from bench.errors import UserError
from bench.photographs import cache_limits
from bench.places import VARIABLE
from bench.plugins.registry import Registry
from bench.studies.data_sets import download
from protocols.datasets import _published
from protocols.datasets._published import SETS, Archive
from tests.worlds import published_files as files


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "data"))
    monkeypatch.setenv("CONDENSEBENCH_STORE", str(tmp_path / "store"))
    monkeypatch.setenv(cache_limits.VARIABLE, "32GB")
    monkeypatch.setattr("bench.places.INSTALLED", ())
    (tmp_path / "data").mkdir()
    return tmp_path


def data(*arguments: str):
    return CliRunner().invoke(cli, ["data", *arguments])


def test_every_set_is_listed_with_its_place_or_how_to_get_it(here: Path) -> None:
    files.mnist(here / "data" / "MNIST" / "raw")
    listed = data().output
    lines = {line.split()[0]: line for line in listed.splitlines()}
    assert set(SETS) | {"digits", "imagefolder"} <= set(lines)
    assert f"MB in {here / 'data' / 'MNIST' / 'raw'}" in lines["mnist"]
    assert "not found: condensebench data get cifar10" in lines["cifar10"]
    assert "says how to get it" in lines["imagenet-1k"]
    assert "comes with the project" in lines["glyphs"]
    assert data("list").output == listed


def test_the_option_names_another_folder_for_this_command(here: Path) -> None:
    files.mnist(here / "other" / "mnist")
    assert str(here / "other" / "mnist") in data("--data", str(here / "other")).output
    with pytest.raises(UserError, match=f"--data {here / 'none'}: {here / 'none'} is no folder"):
        places.place_data(str(here / "none"))


def test_several_folders_are_looked_in_in_order(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        files.mnist(here / name / "mnist")
    monkeypatch.setenv(VARIABLE, os.pathsep.join([str(here / "none"), str(here / "b"), str(here / "a")]))
    assert places.find("mnist", SETS["mnist"].layouts)[0] == here / "b" / "mnist"
    assert places.known() == os.pathsep.join([str(here / "b"), str(here / "a")])


def test_without_a_variable_it_is_the_folder_data(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.mnist(here / "data")
    monkeypatch.delenv(VARIABLE)
    assert places.find("mnist", SETS["mnist"].layouts)[0] == Path("data")


def test_a_check_compares_counts_and_released_digests(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.mnist(here / "data" / "mnist")
    done = data("check", "mnist")
    assert done.exit_code == 1
    assert "train        20 images" in done.output
    assert "DIFFERS: published are 60,000 images" in done.output
    files.mnist(here / "data" / "fashion-mnist")
    done = data("check", "fashion-mnist")
    assert done.exit_code == 1
    assert "DIFFERS: released is e672cce72af51589" in done.output
    files.tree(here / "data" / "birds", ["owl", "jay"])
    done = data("check", "imagefolder:of=birds,size=32,resize=32")
    assert (done.exit_code, done.output.count("nothing released")) == (0, 2)
    monkeypatch.setitem(SETS, "mnist", _published.Published(SETS["mnist"].layouts, (20, 10)))
    done = data("check", "mnist")
    assert (done.exit_code, done.output.count("as many as published")) == (0, 2)


# --- downloads: what torchvision would fetch is served from a folder --------------------------------------------------


@pytest.fixture
def served(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of archives by name, in the place of the network."""
    folder = here / "served"
    folder.mkdir()
    monkeypatch.setattr(utils, "_get_redirect_url", lambda url, **_: url)
    monkeypatch.setattr(
        utils, "_urlretrieve", lambda url, file: Path(file).write_bytes((folder / url.rpartition("/")[2]).read_bytes())
    )
    return folder


def test_a_set_is_downloaded_checked_and_unpacked(served: Path, here: Path, monkeypatch) -> None:
    import shutil

    files.tree(served / "imagewoof2", ["n02086240"])
    packed = Path(shutil.make_archive(str(served / "imagewoof2"), "gztar", served, "imagewoof2")).rename(
        served / "w.tgz"
    )
    checksum = hashlib.md5(packed.read_bytes()).hexdigest()
    small = _published.Published(SETS["imagewoof"].layouts, None, (Archive("https://example.org/w.tgz", checksum),))
    monkeypatch.setitem(SETS, "imagewoof", small)
    done = data("get", "imagewoof")
    assert done.exit_code == 0, done.exception
    assert "https://example.org/w.tgz ->" in done.output
    assert f"imagewoof: {here / 'data' / 'imagewoof' / 'imagewoof2'}" in done.output
    assert "nothing to download" in data("get", "imagewoof").output


def test_what_has_another_checksum_is_not_unpacked_and_not_kept(served: Path, here: Path, monkeypatch) -> None:
    (served / "w.tgz").write_bytes(b"not what was published")
    archive = Archive("https://example.org/w.tgz", "0" * 32)
    with pytest.raises(UserError, match="is not what was published"):
        download.fetch(archive, here / "data" / "w")
    assert list((here / "data" / "w").iterdir()) == []


def test_without_a_network_it_says_what_to_do(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(utils, "_get_redirect_url", unreachable)
    outcome = data("get", "svhn")
    assert isinstance(outcome.exception, UserError)
    for part in ("cannot be reached (no network)", "md5 e26dedcc434d2e4c54c9b2d4a06d8373", "--data", VARIABLE):
        assert part in str(outcome.exception)
    assert list((here / "data").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("imagenet1k", "Did you mean 'imagenet-1k'"),
        ("imagenet-100", "needs an account at image-net.org"),
        ("digits", "No published data set is named 'digits'"),
    ],
)
def test_what_cannot_be_downloaded_is_said(name: str, message: str, here: Path) -> None:
    assert message in str(data("get", name).exception)


# --- a run ------------------------------------------------------------------------------------------------------------


@pytest.mark.trains
@pytest.mark.usefixtures("ray_for_all")
def test_a_run_takes_the_folder_to_its_workers_and_to_no_record(here: Path) -> None:
    files.mnist(here / "elsewhere" / "mnist", train=60, test=20)
    files.tree(here / "elsewhere" / "birds", ["owl", "jay"])
    arguments = [
        "run", "--data", str(here / "elsewhere"), "--dataset", "mnist", "--dataset", "imagefolder:of=birds,size=16",
        "--protocol", "small-hard-v1:scale=0.01",
        "--method", "random", "--ipc", "1", "--replicates", "1", "--results", str(here / "out"), "--jobs", "1",
    ]  # fmt: skip
    outcome = CliRunner().invoke(cli, arguments)
    assert outcome.exit_code == 0, outcome.output
    lines = list(map(json.loads, (here / "out" / "records.jsonl").read_text().splitlines()))
    assert {(line["status"], line["num_test"], line["default_recipe"]) for line in lines} == {
        ("ok", 20, False), ("ok", 2, False),
    }  # fmt: skip
    assert str(here) not in json.dumps(lines)


@pytest.mark.trains
def test_a_run_without_the_data_stops_before_anything_is_trained(here: Path) -> None:
    arguments = ["--protocol", "small-hard-v1", "--method", "random", "--ipc", "1", "--results", str(here / "out")]
    outcome = CliRunner().invoke(cli, ["run", "--dataset", "cifar10", *arguments])
    assert isinstance(outcome.exception, UserError)
    assert "The data set 'cifar10' was not found" in str(outcome.exception)
    assert not (here / "out" / "records.jsonl").exists()
    assert CliRunner().invoke(cli, ["run", "--dataset", "cifar10", *arguments, "--dry-run"]).exit_code == 0


@pytest.mark.parametrize(("ship", "machine", "found"), [(False, "/b", "/a"), (True, "/b", "/b"), (True, None, "/a")])
def test_a_worker_looks_where_the_driver_does_unless_its_own_machine_says_otherwise(
    ship: bool, machine: str | None, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if machine:
        monkeypatch.setenv(VARIABLE, machine)
    place_data_of(Session(Registry(), "store", "cpu", ship, "code", data="/a"))
    assert os.environ[VARIABLE] == found
    place_data_of(Session(Registry(), "store", "cpu", ship, "code"))
    assert os.environ[VARIABLE] == found


@pytest.mark.parametrize(
    ("ship", "machine", "taken"), [(False, "2GB", "1GB"), (True, "2GB", "2GB"), (True, None, "1GB")]
)
def test_a_worker_keeps_as_many_photographs_as_the_driver_was_told(
    ship: bool, machine: str | None, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache_limits.VARIABLE, "")  # what is set here ends with the test
    monkeypatch.delenv(cache_limits.VARIABLE)
    if machine:
        monkeypatch.setenv(cache_limits.VARIABLE, machine)
    place_data_of(Session(Registry(), "store", "cpu", ship, "code", size_limits={cache_limits.VARIABLE: "1GB"}))
    assert os.environ[cache_limits.VARIABLE] == taken


@pytest.mark.trains  # canaries, before the first run of a protocol
def test_photographs_are_decoded_ahead_of_a_run_and_their_size_is_told(here: Path) -> None:
    files.tree(here / "data" / "birds", ["owl", "jay"])
    birds = "imagefolder:of=birds,size=32,resize=32"
    planned = ["run", "--dataset", birds, "--protocol", "small-hard-v1", "--method", "random", "--ipc", "1",
               "--results", str(here / "out"), "--dry-run"]  # fmt: skip
    told = CliRunner().invoke(cli, planned)
    assert f"kept in {here / 'store' / 'datasets'}: train 18.4 kB, test 6.1 kB (limit 32.0 GB" in told.stderr
    done = data("decode", birds)
    assert done.exit_code == 0, done.exception
    assert "train         6 photographs, 18.4 kB of decoded pixels to keep" in done.output
    assert "test          2 photographs, 6.1 kB of decoded pixels to keep" in done.output
    assert len(list((here / "store").rglob("*.pixels.npy"))) == 2
    assert data("decode", birds).output.count("decoded already") == 2
    assert "is decoded once" not in CliRunner().invoke(cli, planned).stderr
    refused = data("decode", "imagefolder:of=birds,size=32,resize=40", "--cache-limit", "20kB")
    assert "--cache-limit 1GB" in str(refused.exception)
    assert "is no set of image files" in str(data("decode", "digits").exception)


@pytest.mark.trains
def test_a_set_that_is_not_here_is_not_checked_as_a_plugin(here: Path) -> None:
    checked = CliRunner().invoke(cli, ["check", "plugins", "cifar10"])
    assert checked.exit_code == 0
    assert "not checked: The data set 'cifar10' was not found" in checked.output
    files.mnist(here / "data" / "mnist")
    assert "15 checks of 1 plugin: 1 note." in CliRunner().invoke(cli, ["check", "plugins", "mnist"]).output
