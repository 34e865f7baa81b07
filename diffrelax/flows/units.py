"""Units of work of jobs, passed between jobs by key."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from socket import gethostname
from typing import Any, TypeGuard

from jobflow import job

from diffrelax.errors import InputError
from diffrelax.files.reading import Rejected
from diffrelax.flows.arguments import Plain, failure
from diffrelax.results.documents import ResultDocument
from diffrelax.results.stored import read_finished
from diffrelax.store import Store

PlainDocument = dict[str, Any]

HANDED = "\nfinished unit "  # no SMILES and no line of a file begins so
KEY = re.compile(r"[0-9a-f]{64}")


class LostUnitError(FileNotFoundError):
    """A finished unit cannot be read.

    Parameters
    ----------
    name : str
        Name of its molecule.
    reason : str
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(reason)
        self.name = name

    def __reduce__(self) -> tuple[type[LostUnitError], tuple[str, str]]:
        return type(self), (self.name, str(self))


def find_unit(work: Store, key: str, name: str) -> PlainDocument | None:
    """Find a finished unit that can be read."""
    record = work.find(key)
    found = read_finished(record) if record else None
    return named(found, name) if found else None


def named(document: ResultDocument, name: str) -> PlainDocument:
    """Return the plain document of a unit under a name; it may have been stored under another."""
    record = document.model_dump(mode="json")
    for part in filter(None, (record, record.get("input"), record.get("output"))):
        part["name"] = name
    return record


@job
def hand_on(documents: Sequence[PlainDocument], work: str) -> list[Plain]:
    """Return references to the documents of a batch, so that later jobs load only their own.

    Each is one string, because jobflow traverses the whole output of a job for each job that refers
    to it.

    Parameters
    ----------
    documents : sequence of dict
        Finished units. Failures are not stored, and passed on unchanged.
    work : str
        Folder of finished units.
    """
    return [
        given
        if is_failure(given)
        else HANDED + json.dumps([given["key"], work, given["name"]], ensure_ascii=False)
        for given in documents
    ]


def fetch(given: Plain) -> Plain:
    """Return the document of a reference by `hand_on`; anything else unchanged.

    Raises
    ------
    ValueError
        If the reference has no valid key.
    LostUnitError
        If the document is missing or unreadable.
    """
    if not isinstance(given, str) or not given.startswith(HANDED):
        return given
    key, work, name = json.loads(given.removeprefix(HANDED))
    if not KEY.fullmatch(key):
        raise InputError(f"{key!r} is not the key of a unit of work")
    found = find_unit(Store.in_folder(work), key, name)
    if found is None:
        raise LostUnitError(
            name,
            f"the finished unit {key} of {name} is not in {work} on {gethostname()}, is "
            "damaged or of another version: all workers need access to that folder and the "
            "same version; rerun the flow",
        )
    return found


def is_failure(given: Plain) -> TypeGuard[PlainDocument]:
    """Return whether an argument is the failure of an earlier stage."""
    return isinstance(given, dict) and given.get("kind") == "failure"


def pass_on(given: Plain, rejected: Rejected, key: str) -> PlainDocument:
    """Return the failure of an earlier stage, or that of an invalid molecule."""
    if is_failure(given):
        return given
    if isinstance(given, str):
        return failure(rejected, stage="embed", key=key)
    relaxed = given.get("kind") == "relaxation"  # and left nothing to go on from
    return failure(rejected, stage="relax" if relaxed else "read", key=key)
