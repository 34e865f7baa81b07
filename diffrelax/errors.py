"""Error classes and messages, and isolation of errors of single molecules."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


class InputError(ValueError):
    """Invalid input; the message says what is wrong, and what to do."""


class UnfinishedError(RuntimeError):
    """Work that could not be finished although the input is valid."""


MACHINE_ERRORS = (OSError, MemoryError, ImportError)  # not due to a single molecule


def each_or_error(
    work: Callable[[Sequence[T]], Sequence[R]], given: Sequence[T]
) -> list[R | Exception]:
    """Process items together; after an error process the halves, down to single items.

    Parameters
    ----------
    work : callable
        Returns a result for each item.
    given : sequence

    Returns
    -------
    list
        A result or an error for each item.

    Raises
    ------
    OSError, MemoryError, ImportError
        Errors that would affect other items too.
    """
    try:
        return list(work(given))
    except MACHINE_ERRORS:
        raise
    except Exception as error:
        if len(given) <= 1:
            return [error] * len(given)
    half = len(given) // 2
    return each_or_error(work, given[:half]) + each_or_error(work, given[half:])


def error_inside(error: Exception) -> str:
    """Return the reason given for a molecule that failed with an internal error."""
    return f"internal error, {type(error).__name__}: {error}"


def reason_of(error: Exception) -> str:
    """Return the message of an error, with its class unless it is due to the input."""
    is_plain = isinstance(error, (InputError, OSError))
    return message_of(error) if is_plain else f"{type(error).__name__}: {error}"


def reason_in(trace: str) -> str:
    """Return the last line of a traceback, with the class unless it is due to the input."""
    last = trace.strip().splitlines()[-1:]
    kind = f"{InputError.__module__}.{InputError.__name__}: "
    return last[0].removeprefix(kind) if last else ""


def message_of(error: Exception) -> str:
    """Return the message of an error; system errors as file and cause, without number."""
    if isinstance(error, OSError) and error.strerror:
        cause = error.strerror[0].lower() + error.strerror[1:]
        return f"{error.filename}: {cause}" if error.filename else cause
    return str(error)


def without_password(text: str) -> str:
    """Return a text without the password in a database address."""
    return re.sub(r"(mongodb(?:\+srv)?://).*@", r"\1", text)
