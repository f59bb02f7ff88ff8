"""The photographs of a data set, split by split, and how much of them is still to be decoded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bench.artifacts.refs import Workspace
from bench.driver.defaults import default_store
from bench.errors import UserError
from bench.photographs.cache_limits import shown
from bench.places import absolute_path
from bench.plugins.registry import discover
from bench.sources import FileSource


@dataclass(frozen=True)
class SplitToDecode:
    """One split: what is said of it before it is decoded, and what decodes it."""

    name: str
    source: FileSource
    bytes: int  # still to be decoded

    @property
    def title(self) -> str:
        """A line for the terminal."""
        state = f"{shown(self.bytes)} of decoded pixels to keep" if self.bytes else "decoded already"
        return f"{self.name:5} {len(self.source):9,} photographs, {state}"


def pixels_to_decode(text: str, store: str | None, plugins: Iterable[str] = ()) -> Iterator[SplitToDecode]:
    """Both splits of a data set, the next one once the first is done.

    Args:
        text: spec of the data set.
        store: where pixels are kept; None: the default store.
        plugins: files that the data set may come from.

    Raises:
        UserError: it is not here, or not made of files.
    """
    ws = Workspace(absolute_path(store or default_store()), discover(plugins))
    data = ws.data(text)
    for name, load in (("train", data.dataset.train), ("test", data.dataset.test)):
        source = load()
        if not isinstance(source, FileSource):
            raise UserError(f"dataset '{text}' is no set of image files: there is nothing to decode.")
        yield SplitToDecode(name, source, source.undecoded())
