"""Errors inside, which cost one molecule and not those beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

OF_THE_MACHINE = (OSError, MemoryError, ImportError)  # or the installation, not of a molecule


def each_or_error(
    work: Callable[[Sequence[T]], Sequence[R]], given: Sequence[T]
) -> list[R | Exception]:
    """Do some work on many together; after an error one by one, each of which may have its own.

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
        if len(given) == 1:
            return [error]
    return [end for one in given for end in each_or_error(work, [one])]


def told(error: Exception) -> str:
    """Say in the reason of a molecule that an error inside was met."""
    return f"an error inside, {type(error).__name__}: {error}"
