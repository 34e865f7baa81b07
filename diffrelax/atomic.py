"""Files that appear whole or not at all, and files that one process writes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from zipfile import BadZipFile

from filelock import FileLock, Timeout

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
        with part.open("r+b") as file:  # Windows syncs no file that is only read
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


@contextmanager
def claimed(path: Path, what: Path | None = None) -> Iterator[None]:
    """Keep other processes out while the block runs, where the file system has locks.

    The lock ends with its process.

    Parameters
    ----------
    path : path
        The lock file, made if it is not there.
    what : path, optional
        What is written, for the error. Without it, wait for other processes to end.

    Raises
    ------
    ValueError
        If another process has the lock.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(FileLock(path, timeout=0 if what else -1))
        except Timeout:
            raise InputError(
                f"another process is writing {what}: wait until it has finished"
            ) from None
        except (OSError, NotImplementedError):  # a file system without locks
            pass
        yield
