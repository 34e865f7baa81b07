"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside ``path``; the file written there takes its place at the end.

    If the block raises, ``path`` stays as it was. Errors of the system, such as a full disk,
    name it.

    Parameters
    ----------
    path : path
        In a folder that exists.
    """
    part = path.with_name(f".{path.name}.{token_hex(8)}.part")
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        if error.errno and error.filename is None:
            error.filename = str(path)
        raise
    finally:
        part.unlink(missing_ok=True)
