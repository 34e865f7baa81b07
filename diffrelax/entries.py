"""Settings from YAML files, and messages about invalid entries."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from diffrelax.errors import InputError

Validated = TypeVar("Validated", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """YAML loader that rejects repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            line = key.start_mark.line + 1
            if key.value in lines:
                raise InputError(
                    f"the key {key.value!r} is in line {lines[key.value]} and again in line "
                    f"{line}: give it once"
                )
            lines[key.value] = line
        return super().construct_mapping(node, deep)


class Entries(BaseModel):
    """Base class of settings: frozen, without unknown entries."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def read_entries(path: Path, what: str, example: str) -> dict[str, Any]:
    """Read a YAML file safely.

    Parameters
    ----------
    path : path
    what : str
        Kind of file for messages, such as ``"flow"``.
    example : str
        An example of an entry, for messages.

    Raises
    ------
    ValueError
        If the file is missing, is not YAML, repeats a key, or is not a mapping.
    """
    try:
        record = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise InputError(f"cannot read the {what} {path}: {error.strerror}") from error
    except InputError as error:
        raise InputError(f"{path} is not a {what}: {error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        wrong = f"it is not YAML (texts with brackets need quotes): {error}"
        raise InputError(f"{path} is not a {what}: {wrong}") from error
    if not isinstance(record, dict):
        raise InputError(f"{path} is not a {what}: write entries such as {example}")
    return record


def read_validated(path: Path, record: type[Validated], what: str, example: str) -> Validated:
    """Read a YAML file of entries as a record.

    Parameters
    ----------
    path : path
    record : type of pydantic.BaseModel
    what, example
        See `read_entries`.

    Raises
    ------
    ValueError
        If the file is missing, is not YAML, repeats a key, or holds an unknown or wrong entry.
    """
    entries = read_entries(path, what, example)
    try:
        return record.model_validate(entries)
    except ValidationError as error:
        raise InputError(f"{path} is not a {what}: {explain_invalid(error)}") from error


def explain_invalid(error: ValidationError) -> str:
    """Describe the invalid entries of a record."""
    problems = []
    for problem in error.errors():
        entry = ".".join(map(str, problem["loc"]))
        wrong = wrong_with(problem)
        problems.append(f"{entry}: {wrong}" if entry else wrong)
    return "; ".join(problems)


def wrong_with(problem: Mapping[str, Any]) -> str:
    """Return the message about one entry, without the prefix of pydantic."""
    return str(problem["msg"]).removeprefix("Value error, ")
