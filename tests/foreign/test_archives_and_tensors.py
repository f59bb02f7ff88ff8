"""Trees, archives and tensors of strangers: nothing leaves its folder, unpacks without bounds, or runs."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.errors import UserError
from bench.foreign import bounds
from bench.foreign.members import archive_members, tree_members
from bench.foreign.named_files import content_digest
from bench.foreign.tensors import read_npz, read_safetensors, read_torch, tensors_of
from methods._stored_labels import describe, read_logits

MIB = 2**20
LARGE = 9 * MIB  # of zeros: more than 100 times what they take


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte is free, so that a bomb of a test may be small."""
    monkeypatch.setattr(bounds, "FREE_BYTES", MIB)


# --- trees and archives


def test_links_stay_within_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("theirs")
    tree = tmp_path / "set"
    (tree / "0").mkdir(parents=True)
    (tree / "0" / "a.png").write_text("a")
    (tree / "0" / "b.png").symlink_to("a.png")
    assert [member.name for member in tree_members(tree)] == ["0/a.png", "0/b.png"]
    for name, target in (("0/c.png", "../../secret"), ("1", "0"), ("0/loop.png", "loop.png"), ("0/far.png", "x" * 300)):
        (tree / name).symlink_to(target)
        with pytest.raises(UserError, match=r"is a link to|cannot be read"):
            tree_members(tree)
        with pytest.raises(UserError, match=r"is a link to|cannot be read"):
            content_digest(tree)
        (tree / name).unlink()
    os.mkfifo(tree / "0" / "pipe.png")
    with pytest.raises(UserError, match="is a pipe"):
        tree_members(tree)


def tar(file: Path, members: list[tuple[str, bytes, bytes]], packed: bool = False) -> Path:
    """(name, type, content) of each."""
    with tarfile.open(file, "w:gz" if packed else "w") as archive:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_an_archive_holds_plain_files_alone(tmp_path: Path, kind: bytes, packed: bool) -> None:
    file = tar(tmp_path / "set.tar", [("0/a.png", tarfile.REGTYPE, b"a"), ("0/b.png", kind, b"")], packed)
    with pytest.raises(UserError, match=r"0/b\.png is a link, a device or a file with holes"):
        archive_members(file)


def test_names_in_an_archive_lead_nowhere(tmp_path: Path) -> None:
    names = ("../../0/a.png", "/0/b.png", "./0/.hidden.png", "0\\c.png")
    file = tar(tmp_path / "set.tar", [(name, tarfile.REGTYPE, name.encode()) for name in names])
    members = {member.name: member.read() for member in archive_members(file)}
    assert members == {"0/a.png": b"../../0/a.png", "0/b.png": b"/0/b.png", "0/c.png": b"0\\c.png"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set.tar"]


@pytest.mark.usefixtures("little")
def test_archives_that_would_unpack_without_bounds_are_refused(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.tar.gz", "wb", compresslevel=1) as packed:
        info = tarfile.TarInfo("0/a.png")
        info.size = LARGE
        packed.write(info.tobuf())  # the header alone tells
    header = tarfile.TarInfo("long")
    header.type, header.size = tarfile.XHDTYPE, LARGE
    with gzip.open(tmp_path / "b.tar.gz", "wb", compresslevel=1) as packed:
        packed.write(header.tobuf(tarfile.USTAR_FORMAT) + bytes(LARGE))
    with zipfile.ZipFile(tmp_path / "c.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0/a.png", bytes(LARGE))
    for name in ("a.tar.gz", "b.tar.gz", "c.zip"):
        with pytest.raises(UserError, match=r"would unpack to .* It was not unpacked"):
            archive_members(tmp_path / name)


STARTS = (b"", b"\x1f\x8b", b"PK\x03\x04", b"BZh9", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"tar")


@pytest.mark.parametrize("start", STARTS)
def test_what_is_no_archive_is_one_sentence(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "set.tar").write_bytes(start + bytes(range(256)))
    with pytest.raises(UserError, match=r"set\.tar cannot be read as an archive") as refused:
        archive_members(tmp_path / "set.tar")
    assert "\n" not in str(refused.value)


def test_a_member_that_is_damaged_is_named_when_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "set.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("0/a.png", b"a picture")
        archive.writestr("1/b.png", b"another")
    file.write_bytes(file.read_bytes().replace(b"a picture", b"A picture"))  # its checksum is that of before
    first, second = archive_members(file)
    assert second.read() == b"another"
    with pytest.raises(UserError, match=r"set\.zip: 0/a\.png cannot be read: Bad CRC-32"):
        first.read()


# --- arrays


def npy(header: str, data: bytes = b"") -> bytes:
    raw = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(raw)) + raw + data


def npz(file: Path, arrays: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in arrays.items():
            archive.writestr(f"{name}.npy", content)
    return file


@pytest.mark.parametrize(
    "content",
    [
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", pickle.dumps([1])),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,)}"),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-4, -4)}", bytes(64)),
        npy("{'descr': '<U9', 'fortran_order': False, 'shape': (1,)}", bytes(36)),
        npy("{'descr': '<f4'}"),
        npy("[" * 5000),
        b"no array",
    ],
    ids=["objects", "more than is there", "negative", "texts", "no shape", "brackets", "none"],
)
def test_arrays_that_cannot_be_are_one_sentence(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UserError, match=r"a\.npz cannot be read as an \.npz file"):
        read_npz(npz(tmp_path / "a.npz", {"images": content}))


@pytest.mark.usefixtures("little")
def test_a_compressed_array_without_bounds_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", images=np.zeros(LARGE, np.uint8))
    with pytest.raises(UserError, match="It was not unpacked"):
        read_npz(tmp_path / "a.npz")


@pytest.mark.parametrize(
    "header",
    [
        b'{"images":{"dtype":"U8","shape":[10],"data_offsets":[0,10]}}',
        b'{"images":{"dtype":"Q7","shape":[0],"data_offsets":[0,0]}}',
        b"[" * 100_000,
    ],
)
def test_safetensors_headers_that_cannot_be_are_one_sentence(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(UserError, match=r"a\.safetensors cannot be read as a safetensors file") as refused:
        read_safetensors(tmp_path / "a.safetensors")
    assert len(str(refused.value)) < 500


def test_a_shape_beyond_all_bounds_without_values_holds_nothing(tmp_path: Path) -> None:
    header = b'{"images":{"dtype":"U8","shape":[0,4611686018427387904],"data_offsets":[0,0]}}'
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    assert read_safetensors(tmp_path / "a.safetensors")["images"].size == 0


# --- files of torch, and labels in them


def nested(depth: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(depth):
        inner = [inner]
    return inner


def endless() -> list[Any]:
    ring: list[Any] = [torch.zeros(2, 10)]
    ring.append(ring)
    return ring


def test_tensors_are_taken_from_any_depth_and_from_a_ring() -> None:
    deep = nested(20_000)
    assert tensors_of([torch.ones(1), deep, {"a": (torch.zeros(2),)}])[1].shape == (2,)
    assert len(tensors_of(endless())) == 1


@pytest.mark.parametrize(
    "content",
    [
        [torch.zeros(2, 10).to_sparse()],
        [torch.zeros(1).expand(10**12).view(10**6, 10**6)],
        [torch.empty(2, 10, device="meta")],
    ],
    ids=["sparse", "expanded", "without values"],
)
def test_tensors_without_values_of_their_own_are_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "batch_0.tar")
    with pytest.raises(UserError, match=r"batch_0\.tar (cannot be read as a label file|holds more than)"):
        describe(tmp_path, 10)


@pytest.mark.usefixtures("little")
def test_a_label_file_that_would_unpack_without_bounds_is_refused(tmp_path: Path) -> None:
    file = io.BytesIO()
    torch.save([torch.zeros(1)], file)
    with zipfile.ZipFile(file) as given, zipfile.ZipFile(tmp_path / "batch_0.tar", "w", zipfile.ZIP_DEFLATED) as bomb:
        for info in given.infolist():
            bomb.writestr(info, given.read(info))
        bomb.writestr("archive/data/9", bytes(LARGE))
    with pytest.raises(UserError, match="It was not unpacked"):
        read_logits(tmp_path / "batch_0.tar")


def test_a_file_of_the_k_largest_is_not_read_as_logits(tmp_path: Path) -> None:
    torch.save([torch.rand(6, 4), torch.zeros(6, dtype=torch.bool), torch.rand(6, 2, 5)], tmp_path / "batch_0.tar")
    with pytest.raises(UserError, match=r"its last floats are \[6, 2, 5\]. FKD's files of the k largest"):
        describe(tmp_path, 4)


def test_lengths_in_a_file_of_before_zip_are_claims(tmp_path: Path) -> None:
    """A text of 2 GiB in 40 bytes: as much is read as there is."""
    file = tmp_path / "old.pt"
    torch.save([torch.zeros(2)], file, _use_new_zipfile_serialization=False)
    assert [tensor.tolist() for tensor in tensors_of(read_torch(file))] == [[0, 0]]
    file.write_bytes(b"\x80\x02X" + struct.pack("<I", 2**31 - 1) + b"a text that is shorter")
    with pytest.raises(UserError, match=r"old\.pt"):
        read_torch(file)


def test_numbers_of_numpy_are_numbers_whatever_a_file_says_of_their_type(tmp_path: Path) -> None:
    """A type with an alignment of -257 ended the process where numpy itself made the number."""
    file, numbers = tmp_path / "numbers.pt", [np.float64(0.449), np.float32(0.5), np.int64(-7), np.bool_(True)]
    torch.save(numbers, file)
    assert read_torch(file) == numbers
    packed = io.BytesIO()
    with zipfile.ZipFile(file) as given, zipfile.ZipFile(packed, "w") as changed:
        for info in given.infolist():
            content = given.read(info).replace(b"J\xff\xff\xff\xff" * 2, b"J\xff\xff\xff\xffJ\xff\xfe\xff\xff")
            changed.writestr(info, content)
    assert packed.getvalue() != file.read_bytes()
    file.write_bytes(packed.getvalue())
    assert read_torch(file) == numbers


@pytest.mark.parametrize("numbers", [np.array([1.0, 2.0]), [np.str_("a")], [np.datetime64("2026-01-01")]])
def test_other_values_of_numpy_are_refused(tmp_path: Path, numbers: Any) -> None:
    torch.save(numbers, tmp_path / "numbers.pt")
    with pytest.raises(UserError, match=r"numbers\.pt"):
        read_torch(tmp_path / "numbers.pt")


def test_a_pipe_among_labels_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "batch_0.tar")
    with pytest.raises(UserError, match="is a pipe"):
        read_torch(tmp_path / "batch_0.tar")
    with pytest.raises(UserError, match="no file of stored labels"):
        describe(tmp_path, 10)
