"""Whose error it is, and how an error of one molecule leaves the others alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


class InputError(ValueError):
    """Something that the user can mend: the message says what is wrong, and what to do."""


class UnfinishedError(RuntimeError):
    """Work that could not be finished, though nothing is wrong with how it was asked for."""


OF_THE_MACHINE = (OSError, MemoryError, ImportError)  # or the installation, not of a molecule


def each_or_error(
    work: Callable[[Sequence[T]], Sequence[R]], given: Sequence[T]
) -> list[R | Exception]:
    """Do some work on many together; after an error on each half, down to one with its own error.

    Parameters
    ----------
    work : callable
        Gives a result for each of those that it is given.
    given : sequence

    Returns
    -------
    list
        Results, and errors in place of those that there are none of.

    Raises
    ------
    OSError, MemoryError, ImportError
        Which another molecule would meet as well.
    """
    try:
        return list(work(given))
    except OF_THE_MACHINE:
        raise
    except Exception as error:
        if len(given) <= 1:
            return [error] * len(given)
    half = len(given) // 2
    return each_or_error(work, given[:half]) + each_or_error(work, given[half:])


def error_inside(error: Exception) -> str:
    """Say in the reason of a molecule that an error inside was met."""
    return f"internal error, {type(error).__name__}: {error}"


def reason_of(error: Exception) -> str:
    """Return what an error says, with its kind unless the user can mend it."""
    is_plain = isinstance(error, (InputError, OSError))
    return message_of(error) if is_plain else f"{type(error).__name__}: {error}"


def reason_in(trace: str) -> str:
    """Return the last line of a traceback, with the kind unless the user can mend it."""
    last = trace.strip().splitlines()[-1:]
    kind = f"{InputError.__module__}.{InputError.__name__}: "
    return last[0].removeprefix(kind) if last else ""


def message_of(error: Exception) -> str:
    """Return what an error says; one of the system as file and cause, without its number."""
    if isinstance(error, OSError) and error.strerror:
        cause = error.strerror[0].lower() + error.strerror[1:]
        return f"{error.filename}: {cause}" if error.filename else cause
    return str(error)


def without_password(text: str) -> str:
    """Return a text, such as the address of a database, as it may be shown."""
    return re.sub(r"(mongodb(?:\+srv)?://).*@", r"\1", text)
