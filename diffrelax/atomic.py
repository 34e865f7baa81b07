"""Atomic writing of files, and locks that keep a file to one process."""

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

# raised when arrays are read from a damaged file
DAMAGED = (BadZipFile, EOFError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; the file written there replaces it at the end.

    If the block raises an error, ``path`` is unchanged. System errors, such as a full disk, name
    ``path``. Links and permissions are kept.

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
    """Write a text file in UTF-8 atomically."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


@contextmanager
def claimed(path: Path, what: Path | None = None) -> Iterator[None]:
    """Hold a lock while the block runs, where the file system supports locks.

    The lock ends with its process.

    Parameters
    ----------
    path : path
        The lock file, made if it is not there.
    what : path, optional
        The file that the lock protects, named in the error. Default: wait for the lock.

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
