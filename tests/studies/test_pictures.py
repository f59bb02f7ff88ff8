"""Pictures of condensed sets: what a sheet shows is the set, pixel by pixel, class by class."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from bench.artifacts.duplicates import set_digest
from bench.artifacts.refs import Workspace, read_condensed
from bench.cli import cli
from bench.errors import UserError
from bench.plugins.registry import discover
from bench.studies.pictures.condensed_sets import Opened, SetName
from bench.studies.pictures.contact_sheets import pictures
from bench.studies.pictures.drawing import Row, Sheet, draw, png
from tests.worlds.plugins import write

FAILS = '''
"""A method that fails."""


def select(train, ipc, ctx):
    raise ArithmeticError("nothing adds up")
'''


def random_images(count: int, channels: int, side: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, channels, side, side), dtype=np.uint8)


def read_back(sheet: Sheet, row: int, column: int, image: Image.Image) -> np.ndarray:
    """The image at a place of a sheet, uint8 [channels, s, s], after a look that each of its pixels is a square."""
    x, y = sheet.corner(row, column)
    square = np.asarray(image)[y : y + sheet.cell, x : x + sheet.cell]
    small = square[:: sheet.scale, :: sheet.scale]
    assert (small.repeat(sheet.scale, 0).repeat(sheet.scale, 1) == square).all()
    return small[None] if small.ndim == 2 else small.transpose(2, 0, 1)


def shot(tmp_path: Path, *options: str) -> tuple[int, str, str]:
    """`picture` on digits: exit code, stdout, stderr."""
    store = tmp_path / "store"
    answer = CliRunner().invoke(cli, ["picture", "--dataset=digits", *options, f"--store={store}"])
    if answer.exception and not isinstance(answer.exception, SystemExit):
        raise answer.exception
    return answer.exit_code, answer.stdout, answer.stderr


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
@pytest.mark.parametrize("side", [8, 28, 32, 100])
def test_every_pixel_of_the_images_stands_in_the_file(channels: int, mode: str, side: int) -> None:
    images = random_images(7, channels, side)
    groups = {"One": [Row("first\nof two lines\nof three\nof four\nof five\nof six", images[:3], "note")],
              "Two": [Row("second", images[3:6]), Row("third", images[6:])]}  # fmt: skip
    sheet = Sheet("caption\nbelow", ("a", "b", "a very long heading"), groups)
    image = Image.open(io.BytesIO(png(draw(sheet), {"Title": "Größe"})))
    assert image.mode == mode
    for number, (row, column) in enumerate([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0)]):
        assert (read_back(sheet, row, column, image) == images[number]).all()
    assert image.size == sheet.size
    assert image.text["Title"] == "Größe"


def test_nothing_is_written_over_an_image_and_nothing_leaves_the_sheet() -> None:
    rows = [Row("a name that is wider than the images are", np.zeros((2, 1, 8, 8), np.uint8)) for _ in range(3)]
    sheet = Sheet(
        "a caption that is very much wider than all the images and all the names of this sheet", "ab", {"": rows}
    )
    pixels = np.asarray(draw(sheet))
    edges = (pixels[:5], pixels[-5:], pixels[:, :5], pixels[:, -5:])
    assert all((edge == 255).all() for edge in edges)
    assert all((read_back(sheet, row, column, draw(sheet)) == 0).all() for row in range(3) for column in range(2))


def test_the_same_sheet_gives_the_same_bytes() -> None:
    def made() -> bytes:
        sheet = Sheet("caption", ("0",), {"": [Row("x", random_images(1, 3, 32))]})
        return png(draw(sheet), {"Title": "x"})

    assert made() == made()


def test_two_channels_are_no_colour() -> None:
    with pytest.raises(UserError, match="1 or 3 channels; these have 2"):
        Sheet("", (), {"": [Row("x", random_images(1, 2, 8))]})


def test_a_sheet_shows_the_set_of_the_store_class_by_class(tmp_path: Path) -> None:
    code, out, _ = shot(tmp_path, "--method=random", "--ipc=3", "--replicate=1", "--images=2", "--classes=4",
                        f"--out={tmp_path / 'set.png'}")  # fmt: skip
    assert (code, out.strip()) == (0, str(tmp_path / "set.png"))

    name = SetName("digits", "small-teacher-v1", "random", 3)
    ws = Workspace(tmp_path / "store", discover(()))
    condensed = read_condensed(ws, Opened(ws, [name]).condense(name, 1)).arrays
    other = read_condensed(ws, Opened(ws, [name]).condense(name, 0)).arrays
    assert not np.array_equal(condensed["images"], other["images"])
    expected = np.stack([condensed["images"][condensed["labels"] == label][:2] for label in range(4)])
    image = Image.open(tmp_path / "set.png")
    # Where the images stand is told by a sheet of the same texts around other images.
    lines = image.text["Title"]
    sheet = Sheet(lines, (), {"": [Row(str(label), np.zeros_like(expected[0])) for label in range(4)]})
    found = [[read_back(sheet, row, column, image) for column in range(2)] for row in range(4)]
    assert (np.array(found) == expected).all()
    digest = set_digest(condensed["images"], condensed["labels"])
    assert image.text["Description"] == f"random {digest}"
    assert digest[:16] in lines
    assert "replicate 1" in lines
    assert image.size == sheet.size


def test_several_methods_share_a_sheet_and_each_has_one_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    methods = ("--method=noise", "--method=random", "--method=el2n:end=hard,epochs=2")
    code, out, _ = shot(tmp_path, *methods, "--ipc=2", f"--out={folder}")
    assert code == 0
    names = ["digits-ipc2", "digits-ipc2-noise", "digits-ipc2-random", "digits-ipc2-el2n-end=hard,epochs=2"]
    assert sorted(out.split()) == sorted(str(folder / f"{name}.png") for name in names)
    overview = Image.open(folder / "digits-ipc2.png")
    assert [line.split()[0] for line in overview.text["Description"].splitlines()] == [
        "noise", "random", "el2n:end=hard,epochs=2",
    ]  # fmt: skip
    alone = Image.open(folder / "digits-ipc2-random.png")
    assert overview.text["Description"].splitlines()[1] == alone.text["Description"]


def test_one_picture_is_made_for_each_set_and_for_all_together() -> None:
    def stems(*names: SetName, images: int = 10) -> list[tuple[str, bool]]:
        return [(picture.stem, picture.whole) for picture in pictures(names, images)]

    one = SetName("glyphs:classes=20", "t", "dm", 1)
    assert stems(one) == [("glyphs-classes=20-ipc1", False)]
    ten = SetName("digits", "t", "dm", 10)
    assert stems(ten) == [("digits-ipc10-dm", True)]
    assert stems(ten, images=1) == [("digits-ipc10", False)]
    other = SetName("digits", "u", "dm", 10)
    assert stems(ten, other) == [("digits-ipc10-t-dm", True), ("digits-ipc10-u-dm", True)]


def test_a_method_that_fails_costs_its_own_row_only(tmp_path: Path) -> None:
    plugin = write(tmp_path / "fails.py", FAILS)
    methods = ("--method=fails", "--method=random")
    code, out, err = shot(tmp_path, *methods, "--ipc=1", f"--out={tmp_path / 'all.png'}", f"--plugin={plugin}")
    assert (code, out.strip()) == (1, str(tmp_path / "all.png"))
    assert err.strip() == "failed: digits ipc=1 fails: ArithmeticError: nothing adds up"
    assert Image.open(tmp_path / "all.png").text["Description"].startswith("random ")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--method=randon", "--ipc=1", "--out=x.png"], "Did you mean 'random'"),
        (["--ipc=1", "--out=x.png"], "no method is named. Type --method NAME"),
        (["--method=random", "--plan=x.toml", "--out=x"], "A plan file says what to run; leave out datasets, methods"),
        (["--method=random", "--ipc=1", "--ipc=2", "--out=all.png"], "2 pictures come of this"),
    ],
)
def test_a_mistake_is_told_before_anything_is_made(options: list[str], told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        shot(tmp_path, *options)
    assert told in str(error.value)
    assert not (tmp_path / "store").exists()
