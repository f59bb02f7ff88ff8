"""Published numbers, read from a TOML file: what a paper's table says of a cell that is run here.

    title = "Fashion-MNIST against the published table"
    about = "What is compared, and how it is run here."
    plan = "../fashion.toml"                  # what is run, relative to the file

    [source.dc-table]
    text = "Zhao et al., ICLR 2021, table 1"
    read = false                              # whether the number was read in the source, or is recalled

    [[number]]
    name = "Random"                           # as the source calls the method
    source = "dc-table"
    dataset = "fashion-mnist"
    protocol = "dc-v1"
    method = "random"                         # what it is here
    ipc = 1
    mean = 51.4                               # percent
    std = 3.8                                 # points, over all published accuracies
    sets = 5                                  # condensed sets behind it

    [[explanation]]                           # another run, that may explain a difference
    name = "Forgetting"
    method = "forgetting:end=easy"
    protocol = "dc-v1"
    ipcs = [1]
    says = "What the run changes, and why that could explain the difference."

    [difference]                              # what is known to differ, by the name of the method
    Random = "..."

The verb `published` prints the page that bench/reports/published/published_page.py makes of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.errors import UserError, unknown
from bench.plugins.registry import Registry
from bench.plugins.spec import parse
from bench.protocol.toml_file import read_toml

Name = Annotated[str, Field(min_length=1)]
Ipc = Annotated[int, Field(ge=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Part):
    """Where numbers were published."""

    text: Name
    read: bool  # in the source named, or a copy that the text names; False: recalled, to be checked against the paper


class Number(_Part):
    """A published accuracy, and the cell that it is compared with."""

    name: Name
    source: Name
    dataset: Name
    protocol: Name
    method: Name
    ipc: Ipc
    mean: Annotated[float, Field(gt=0, lt=100)]  # percent
    std: Annotated[float, Field(ge=0, lt=100)]  # points
    sets: Annotated[int, Field(ge=1)] = 5  # condensed sets; the students of a set are no independent draws of it


class Explanation(_Part):
    """Another run, whose difference from a row of the table is of interest."""

    name: Name  # of the numbers that it may explain
    method: Name
    protocol: Name
    ipcs: Annotated[list[Ipc], Field(min_length=1)]
    says: Name


class Published(_Part):
    """A file of published numbers."""

    title: Name
    about: str = ""
    plan: Name
    source: dict[str, Source]
    number: Annotated[list[Number], Field(min_length=1)]
    explanation: list[Explanation] = []
    difference: dict[str, str] = {}


def read_published(path: str | Path, registry: Registry) -> Published:
    """Read and check a file of published numbers; methods and data sets come back as canonical specs. Raises UserError
    naming the file and what is wrong."""
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"{path}: there is no such file of published numbers. The project's own, results/fashion/published.toml, "
            "lies in its checkout: it is not installed."
        )
    try:
        content = Published(**read_toml(path))
    except ValidationError as error:
        first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
        place = " ".join(key if isinstance(key, str) else f"number {key + 1}" for key in first["loc"])
        raise UserError(f"{path}: {place}: {first['msg']}.") from None
    names = {number.name for number in content.number}
    for number in content.number:
        if number.source not in content.source:
            raise UserError(f"{path}, '{number.name}': {unknown('source', number.source, content.source)}")
    for name in [*(each.name for each in content.explanation), *content.difference]:
        if name not in names:
            raise UserError(f"{path}, differences and explanations: {unknown('number', name, names)}")
    places = [(each.name, each.protocol, each.ipc) for each in content.number]
    if twice := next((place for place in places if places.count(place) > 1), None):
        raise UserError(f"{path}: two numbers are '{twice[0]}' under {twice[1]} at ipc {twice[2]}.")
    numbers = [
        each.model_copy(
            update={
                "method": str(parse(registry, "method", each.method)),
                "dataset": str(parse(registry, "dataset", each.dataset)),
            }
        )
        for each in content.number
    ]
    explanations = [
        each.model_copy(update={"method": str(parse(registry, "method", each.method))}) for each in content.explanation
    ]
    return content.model_copy(update={"number": numbers, "explanation": explanations})
