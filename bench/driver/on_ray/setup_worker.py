"""What Ray runs first in a worker's process: it sets the worker's variables and becomes the worker's program.

Ray's own program for this loads all of Ray, and the worker's program then loads it again. The raylet knows the program
by the name of its file. A worker that is to have more than variables is left to Ray's own.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys

CONTEXT = "--serialized-runtime-env-context="
LANGUAGE = "--language="


def line_and_variables(arguments: list[str]) -> tuple[list[str], dict[str, str]]:
    """The command line that the process goes on with, and the variables that it gets.

    Args:
        arguments: the worker's program and its arguments, and among them two for this program.
    """
    rest = [each for each in arguments if not each.startswith((CONTEXT, LANGUAGE))]
    contexts = [json.loads(each.removeprefix(CONTEXT)) for each in arguments if each.startswith(CONTEXT)]
    if len(contexts) == 1 and f"{LANGUAGE}PYTHON" in arguments:
        variables, python = contexts[0].pop("env_vars", {}), contexts[0].pop("py_executable", None)
        if not any(contexts[0].values()) and not any("$" in value for value in variables.values()):
            return [python or sys.executable, *rest], variables
    return [sys.executable, _of_ray(), *arguments], {}


def _of_ray() -> str:
    """The path of Ray's own program."""
    ray = importlib.util.find_spec("ray")
    assert ray is not None
    assert ray.origin is not None
    return os.path.join(os.path.dirname(ray.origin), "_private", "workers", os.path.basename(__file__))


if __name__ == "__main__":
    line, variables = line_and_variables(sys.argv[1:])
    os.environ.update(variables)
    os.execv(line[0], line)
