"""Downloads of published data sets, by torchvision: with progress, and with a checksum before anything is unpacked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

from bench.errors import UserError, unknown
from bench.places import VARIABLE, data_folders, find
from protocols.datasets._published import SETS, Archive

PACKED = (".tar.gz", ".tgz", ".zip")


def download(name: str, report: Callable[[str], object]) -> str:
    """Download what a data set lacks; returns where it lies then.

    Args:
        name: of the data set.
        report: is told each file before it is downloaded.

    Raises:
        UserError: it cannot be downloaded, there is no network, or a checksum does not fit.
    """
    if name not in SETS:
        raise UserError(unknown("published data set", name, SETS))
    published = SETS[name]
    try:
        return f"{find(name, published.layouts)[0]} (nothing to download)"
    except UserError:
        pass  # not here yet
    if not published.archives:
        raise UserError(f"{name}: {published.by_hand}")
    folder = data_folders()[0] / name
    for archive in published.archives:
        report(f"{archive.url} -> {folder}")
        fetch(archive, folder)
    return str(find(name, published.layouts)[0])


def fetch(archive: Archive, folder: Path) -> None:
    """One archive into a folder, unpacked there. Raises UserError."""
    from torchvision.datasets.utils import download_url, extract_archive

    file = archive.url.rpartition("/")[2]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        download_url(archive.url, str(folder), file, archive.md5)
        if file.endswith(PACKED):
            extract_archive(str(folder / file), str(folder))
    except (URLError, TimeoutError, ConnectionError) as error:
        if not any(folder.iterdir()):
            folder.rmdir()
        raise UserError(
            f"{archive.url} cannot be reached ({getattr(error, 'reason', error)}). Where there is no network, download "
            f"it elsewhere (md5 {archive.md5}), put it into {folder} and unpack it there; or name the folder where it "
            f"lies already with --data or ${VARIABLE}."
        ) from None
    except RuntimeError:
        (folder / file).unlink(missing_ok=True)
        raise UserError(
            f"What {archive.url} sent is not what was published (md5 {archive.md5}); the file was deleted. Try again."
        ) from None
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror or error}") from None
