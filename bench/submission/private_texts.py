"""What must not leave a machine: its paths, its name, the user's, and anything that opens a door.

A submission is published. Records of honest runs hold no path, but a method may tell one in its provenance, and a
plugin's source may name a folder or hold a key.
"""

from __future__ import annotations

import getpass
import os
import re
import socket
import tempfile
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from pathlib import Path

from bench.finding import Finding
from bench.places import absolute_path
from bench.texts import cut, visible

LONGEST_SHOWN = 60  # characters of a path that are shown
SHORTEST_NAME = 4  # letters of a machine's name or of a secret value; shorter ones stand in any text
FEW = 5  # places of one kind that are named

# A home folder of anybody, as Linux, macOS and Windows call it.
HOMES = re.compile(r"(?<![\w.])(?:/home/|/Users/|/root/|[A-Za-z]:(?:\\\\?|/)Users(?:\\\\?|/))[\w.-]+")
# Keys and tokens by the form that their issuers give them.
SECRETS: Mapping[str, re.Pattern[str]] = {
    "a private key": re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"),
    "a key of AWS": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a token of GitHub": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{22,})"),
    "a token of GitLab": re.compile(r"\bglpat-[\w-]{20,}"),
    "a token of Hugging Face": re.compile(r"\bhf_[A-Za-z0-9]{30,}\b"),
    "a token of PyPI": re.compile(r"\bpypi-AgE[\w-]{50,}"),
    "a token of Slack": re.compile(r"\bxox[abeprs]-[\w-]{10,}"),
    "a key of Google": re.compile(r"\bAIza[\w-]{35}\b"),
    "an API key (sk-...)": re.compile(r"\bsk-[\w-]{20,}"),
    "a web token (JWT)": re.compile(r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"),
    "a password in an address": re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s/:@\"']+:[^\s/:@\"']+@"),
    "a password": re.compile(
        r"(?i)\b(?:password|passwd|secret|api_?key|access_?key|auth_?token)\b[\"']?\s*[=:]\s*[\"'][^\"'\s]{8,}[\"']"
    ),
}
_SECRET_NAME = re.compile(r"(?i)TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|AUTH")


def private_findings(files: Mapping[str, bytes], folders: Iterable[Path]) -> Iterator[Finding]:
    """A finding for every kind of private text in the files, with the places where it stands.

    Args:
        files: name -> content.
        folders: of this machine, whose paths tell nobody else anything; home, current and temporary folder are added.
    """
    machine = _of_this_machine(folders)
    values = {value: f"the value of ${name}" for name, value in _secret_variables(os.environ).items()}
    places: dict[tuple[str, str], list[str]] = {}
    for name, content in files.items():
        for number, line in enumerate(content.decode("utf-8", "replace").split("\n"), 1):
            where = f"{name}:{number}"
            for pattern in (HOMES, *([machine] if machine is not None else [])):
                for match in pattern.finditer(line):
                    places.setdefault(("private-path", match[0][:LONGEST_SHOWN]), []).append(where)
            for what, pattern in SECRETS.items():
                if pattern.search(line):
                    places.setdefault(("secret", what), []).append(where)
            for value, what in values.items():
                if value in line:
                    places.setdefault(("secret", what), []).append(where)
    for (rule, what), several in places.items():
        once = list(dict.fromkeys(several))
        more = f" and {len(once) - FEW} more" if len(once) > FEW else ""
        yield Finding(rule, ", ".join(once[:FEW]) + more, _message(rule, what))


def without_secrets(environment: MutableMapping[str, str]) -> None:
    """Take variables that look like secrets out of an environment, before code of others inherits it."""
    for name in _secret_variables(environment):
        del environment[name]


def _message(rule: str, what: str) -> str:
    if rule == "secret":
        return f"{what} stands there. Take it out, and make it invalid where it was issued."
    return (
        f"'{visible(cut(what))}' is of this machine, and a submission is published. In a plugin, take it out; where a "
        "record's provenance tells it, have the method not tell it and type condensebench run --rerun all."
    )


def _secret_variables(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if _SECRET_NAME.search(name) and len(value) >= 2 * SHORTEST_NAME and not os.path.exists(value)
    }


def _of_this_machine(folders: Iterable[Path]) -> re.Pattern[str] | None:
    """What tells this machine and its user: absolute paths, the machine's name, the user's home."""
    paths = [Path.home(), Path.cwd(), Path(tempfile.gettempdir()), *folders]
    absolute = {str(each) for path in paths for each in (path.absolute(), absolute_path(path)) if len(each.parts) > 1}
    parts = [rf"(?<![\w.]){re.escape(path)}(?![\w-])[\w./-]*" for path in sorted(absolute, key=len, reverse=True)]
    name = socket.gethostname()
    if len(name) >= SHORTEST_NAME and name != "localhost":
        parts.append(rf"(?<![\w-]){re.escape(name)}(?![\w-])")
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in containers
        user = ""
    if user:
        parts.append(rf"(?<=/){re.escape(user)}(?=/)")
    return re.compile("|".join(parts)) if parts else None
