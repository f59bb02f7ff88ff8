"""Withdrawn protocols: protocols/errata.toml says which digest must no longer be used, since when, and why."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.errors import UserError
from bench.plugins.registry import ROOT
from bench.protocol.toml_file import read_toml

PATH = ROOT / "protocols" / "errata.toml"
Text = Annotated[str, Field(min_length=1)]


class Withdrawal(BaseModel):
    """One [[withdrawn]] table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: Text  # id, without a scale
    digest: Annotated[str, Field(pattern="^[0-9a-f]{8,64}$")]  # of the withdrawn values, or at least its first 8 digits
    date: date
    reason: Text  # what is wrong, and what to use instead


def read(path: Path = PATH) -> list[Withdrawal]:
    """All withdrawals; none where there is no such file. Raises UserError where the file has another form."""
    if not path.is_file():
        return []
    content = read_toml(path)
    tables = content.pop("withdrawn", [])
    if content or not isinstance(tables, list):
        raise UserError(f"{path}: only [[withdrawn]] tables may stand here, with protocol, digest, date and reason.")
    withdrawals = []
    for number, table in enumerate(tables, 1):
        try:
            withdrawals.append(Withdrawal.model_validate(table))
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}".lstrip(": ") for e in error.errors())
            raise UserError(f"{path}, [[withdrawn]] number {number}: {problems}") from None
    return withdrawals


def withdrawn(protocol_id: str, digest: str, path: Path = PATH) -> Withdrawal | None:
    """The withdrawal that holds for this protocol in this state, or None.

    Args:
        protocol_id: a miniature's (`rded-v1:scale=0.01`) is that of its protocol.
        digest: sha256 of the whole protocol, not of a miniature.
    """
    name = protocol_id.partition(":")[0]
    return next((w for w in read(path) if w.protocol == name and digest.startswith(w.digest)), None)
