"""Reading lines of text files, compressed or not."""

from __future__ import annotations

import gzip
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator
from io import BufferedReader, TextIOWrapper
from typing import IO, cast

from diffrelax.errors import InputError

GZIP = b"\x1f\x8b"  # first two bytes of a file
LONGEST_LINE = 10_000_000  # characters
NOT_UTF8 = re.compile("[\udc80-\udcff]")  # surrogates of bytes that are not UTF-8


def read_lines(file: BufferedReader) -> Iterator[str]:
    r"""Yield the lines of a file, each with a final ``\n``; gzip is recognised.

    Bytes that are not UTF-8 are read as Windows-1252.

    Raises
    ------
    ValueError
        If the text is UTF-16, or a line is too long for a text file.
    OSError, EOFError
        If the file is damaged.
    """
    start = file.peek(2)[:2]
    if start in (BOM_UTF16_BE, BOM_UTF16_LE):
        raise InputError("it is a text file in UTF-16: save it in UTF-8")
    source = cast(IO[bytes], gzip.GzipFile(fileobj=file) if start == GZIP else file)
    text = TextIOWrapper(source, encoding="utf-8-sig", errors="surrogateescape")
    while line := text.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE:
            raise InputError(f"it has a line of more than {LONGEST_LINE:,} characters")
        yield NOT_UTF8.sub(_windows_1252, line.removesuffix("\n") + "\n")


def _windows_1252(byte: re.Match[str]) -> str:
    return byte[0].encode(errors="surrogateescape").decode("cp1252", errors="replace")


def check_text(record: str) -> None:
    """Raise ValueError if a record has a NUL byte, at which RDKit stops reading."""
    if "\0" in record:
        raise InputError("it contains a NUL byte: the file is damaged, or not text")
