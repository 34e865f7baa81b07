"""Reading and writing of stored result documents."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from diffrelax.entries import explain_invalid
from diffrelax.errors import InputError
from diffrelax.results.documents import (
    SCHEMA_VERSION,
    FailureDocument,
    MinimisationDocument,
    ResultDocument,
)

_RESULTS: TypeAdapter[ResultDocument] = TypeAdapter(
    Annotated[ResultDocument, Field(discriminator="kind")]
)


def read_finished(record: Mapping[str, Any]) -> ResultDocument | None:
    """Read the record of a unit; None if it must be done again.

    This is so if it is unreadable, or a failure, which may not happen again.
    """
    try:
        document = read_document(record)
    except ValueError:
        return None
    return None if _has_failed(document) else document


def write_finished(document: ResultDocument) -> dict[str, Any] | None:
    """Return the record of a unit; None if it has failed."""
    return None if _has_failed(document) else document.model_dump(mode="json")


def _has_failed(document: ResultDocument) -> bool:
    """Return whether there is no result; a minimisation without an energy is none."""
    if isinstance(document, MinimisationDocument):
        return document.energy is None
    return isinstance(document, FailureDocument)


def read_document(record: Mapping[str, Any]) -> ResultDocument:
    """Read a result document, of this schema version or an older one.

    Parameters
    ----------
    record : mapping
        From ``document.model_dump(mode="json")``; keys that jobflow adds are ignored.

    Raises
    ------
    ValueError
        If it was written by a newer version, or is not a result document.
    """
    found = record.get("schema_version")
    if not isinstance(found, int) or found < 1:
        raise InputError(
            f"a document without a schema version (it has {', '.join(map(str, record))}) is "
            "not a result of diffrelax, or is too old: calculate it again"
        )
    if found > SCHEMA_VERSION:
        raise InputError(
            f"a document of schema version {found} was written by a newer version; "
            f"diffrelax {version('diffrelax')} reads up to {SCHEMA_VERSION}: install the "
            "newer one"
        )
    try:
        return _RESULTS.validate_python(_without_marks(record))
    except ValidationError as error:
        unknown = [e["loc"][-1] for e in error.errors() if e["type"] == "extra_forbidden"]
        if len(unknown) == error.error_count():
            raise InputError(
                f"a document has fields unknown to diffrelax {version('diffrelax')} "
                f"({', '.join(map(str, unknown))}): install the version that wrote it"
            ) from error
        raise InputError(
            f"a document is damaged, calculate it again: {explain_invalid(error)}"
        ) from error


def _without_marks(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_marks(v) for k, v in value.items() if not k.startswith("@")}
    return [_without_marks(v) for v in value] if isinstance(value, list) else value
