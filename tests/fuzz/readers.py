"""All readers by name."""

from __future__ import annotations

from tests.fuzz import answers, blobs, commands, data_sets, pictures, published, stores, submissions, texts
from tests.fuzz.reader import Reader

READERS: dict[str, Reader] = {
    name: reader
    for room in (texts, blobs, pictures, published, data_sets, stores, submissions, answers, commands)
    for name, reader in room.READERS.items()
}
