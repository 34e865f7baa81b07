"""Files that appear whole or not at all, and files that one process writes."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import IO
from zipfile import BadZipFile

from diffrelax.errors import InputError

# of what reads arrays from a damaged file, whose header may announce any size
DAMAGED = (BadZipFile, EOFError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside ``path``; the file written there takes its place at the end.

    If the block raises, ``path`` stays as it was. Errors of the system, such as a full disk,
    name it. A link stays one, and a file keeps its permissions.

    Parameters
    ----------
    path : path
        In a folder that exists.
    """
    place = Path(os.path.realpath(path))
    part = place.with_name(f".{place.name}.{token_hex(8)}.part")
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            shutil.copymode(place, part)
        os.replace(part, place)
    except OSError as error:
        if error.errno and error.filename in (None, str(part)):
            error.filename = str(path)
        if error.filename2 == str(part):
            error.filename2 = str(path)
        raise
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def claim(file: IO[bytes], path: Path, lock: Callable[[IO[bytes], int], None]) -> None:
    """Keep an open file from other processes until it is closed, where its system has locks.

    Parameters
    ----------
    file : binary file
    path : path
        That is told as what is written.
    lock : callable
        `fcntl.flock`, which keeps this process from opening it again, too, or `fcntl.lockf`.

    Raises
    ------
    ValueError
        If another one has it.
    """
    with suppress(OSError):  # a file system without locks
        try:
            lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"another process writes to {path}: wait for its end") from None
