"""Units of work as documents: found, kept, or passed on because there is nothing to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeGuard

from diffrelax.documents import find_document
from diffrelax.files import Rejected
from diffrelax.flows.arguments import Plain, failure
from diffrelax.work import WorkFolder

Document = dict[str, Any]


def open_work(path: str) -> WorkFolder | None:
    """Open a folder of finished units; of an empty path, none."""
    return WorkFolder(Path(path)) if path else None


def find_unit(work: WorkFolder | None, key: str, name: str) -> Document | None:
    """Find a finished unit that can be read; its molecule may have had another name then."""
    found = find_document(work, key) if work else None
    if found is None:
        return None
    document = found.model_dump(mode="json")
    parts = (document, document.get("input"), document.get("output"))
    for part in filter(None, parts):
        part["name"] = name
    return document


def keep_unit(work: WorkFolder | None, key: str, document: Document) -> None:
    """Keep a unit that has just been finished."""
    if work:
        work.keep(key, document)


def is_failure(given: Plain) -> TypeGuard[Document]:
    """Whether an argument is the failure of an earlier stage."""
    return isinstance(given, dict) and given.get("kind") == "failure"


def pass_on(given: Plain, rejected: Rejected, key: str) -> Document:
    """Return the failure that an earlier stage handed on, or that of what is no molecule."""
    if is_failure(given):
        return given
    if isinstance(given, str):
        return failure(rejected, stage="embed", key=key)
    relaxed = given.get("kind") == "relaxation"  # and left nothing to go on from
    return failure(rejected, stage="relax" if relaxed else "read", key=key)
