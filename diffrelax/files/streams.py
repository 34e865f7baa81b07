"""Lines of text files, compressed or not, one after the other."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from io import BufferedReader, TextIOWrapper
from typing import IO, cast

from diffrelax.errors import InputError

GZIP = b"\x1f\x8b"  # its first two bytes
LONGEST_LINE = 10_000_000  # characters


def read_lines(file: BufferedReader) -> Iterator[str]:
    r"""Yield the lines of a file, each with a ``\n`` at its end; gzip is recognised.

    Bytes that are not UTF-8 become lone surrogates, see `check_text`.

    Raises
    ------
    ValueError
        At the first line that no text file has.
    OSError, EOFError
        Where the file is damaged.
    """
    packed = file.peek(len(GZIP)).startswith(GZIP)
    source = cast(IO[bytes], gzip.GzipFile(fileobj=file) if packed else file)
    text = TextIOWrapper(source, encoding="utf-8-sig", errors="surrogateescape")
    while line := text.readline(LONGEST_LINE):
        if "\0" in line:
            raise InputError("it is not a text file in UTF-8: convert it")
        if len(line) == LONGEST_LINE:
            raise InputError(f"it has a line of more than {LONGEST_LINE:,} characters")
        yield line if line.endswith("\n") else line + "\n"


def check_text(record: str) -> None:
    """Raise ValueError if a record was not UTF-8."""
    try:
        record.encode()
    except UnicodeEncodeError:
        raise InputError("it is not text in UTF-8: convert the file") from None
