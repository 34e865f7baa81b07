"""How a result was made, and the files that it is kept in."""

import json
import shlex
import sys
from dataclasses import astuple
from pathlib import Path
from typing import Any

from diffrelax.atomic import write_text
from diffrelax.benchmark.estimates import Estimate
from diffrelax.benchmark.hardware import describe_hardware
from diffrelax.files.values import plain_values
from diffrelax.models.release import Model


def how_made(model: Model | None = None, *, shared: bool = False, **more: Any) -> dict[str, Any]:
    """Say by which command, with which model and on what a result is made, and more about it.

    Of paths in the command that lead out of the repository, the last two names are told.

    Parameters
    ----------
    model : Model, optional
    shared : bool
        Whether other work runs on the machine.
    """
    command = {"command": shlex.join(["python", *map(_described, sys.argv)])}
    of_model = {"model": model.name, "sha256": model.sha256} if model else {}
    hardware = describe_hardware("cpu") + (", shared with other work" if shared else "")
    return command | of_model | {"hardware": hardware} | more


def _described(argument: str) -> str:
    path = Path(argument)
    inside = not path.is_absolute() and path.parts[:1] != ("..",)
    return argument if inside else "/".join([part for part in path.parts if part != ".."][-2:])


def store(path: Path, record: Any, indent: int | None = 1) -> None:
    """Write a record as JSON, an estimate as its value, low and high."""
    text = json.dumps(record, indent=indent, ensure_ascii=False, default=_plain)
    write_text(path, text + "\n")


def _plain(estimate: Estimate) -> Any:
    return plain_values(astuple(estimate))
