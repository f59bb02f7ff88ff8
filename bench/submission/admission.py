"""Every rule that `submit` and `accept` have beside those of `check records`, `check plugins` and `verify`."""

from __future__ import annotations

from bench.finding import Finding, Severity

# Stable names: programs and tests read them. Each with its severity, and what holds where nothing is found.
RULES: dict[str, tuple[Severity, str]] = {
    # the archive
    "unsafe-archive": ("error", "a submission is a zip of plain files that unpacks to what it says"),
    "not-a-submission": ("error", "it holds what `condensebench submit` writes, and nothing else"),
    "altered-file": ("error", "no file was changed after it was packed"),
    "own-findings": ("error", "the sender's own checks found nothing"),
    "other-plan": ("error", "the records are those of the plan, all of them"),
    "repeated-trial": ("error", "a trial has one record"),
    # what leaves the sender's machine
    "private-path": ("error", "no path of the sender's machine is told, nor its name"),
    "secret": ("error", "no password, key or token is told"),
    # plugins
    "bad-plugin": ("error", "every plugin can be read"),
    "name-taken": ("error", "a plugin has a name that nothing else on the leaderboard has"),
    "unused-plugin": ("error", "some record names the plugin"),
    "unconfined-plugin": (
        "error",
        "the code of every plugin runs in a process with limits",
    ),
    # against the leaderboard
    "contradiction": ("error", "a trial that is there already has the same result"),
    "already-there": ("note", "the leaderboard keeps the result that it has"),
    "nothing-run-again": ("error", "some record of the submission could be run again"),
}


def finding(rule: str, where: str, message: str) -> Finding:
    """A finding by one of these rules."""
    return Finding(rule, where, message, RULES[rule][0])
