"""Tables and counts as text, for people to read."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how one begins in a spreadsheet
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def counted(n: int, what: str) -> str:
    """Say how many there are of what is named in the singular: ``1 geometry``, ``2 geometries``.

    Parameters
    ----------
    n : int
    what : str
        With a plural in -s, or in -ies for one in -y.
    """
    if n == 1:
        return f"1 {what}"
    return f"{n} {what[:-1]}ies" if what.endswith("y") else f"{n} {what}s"


def shown(text: str) -> str:
    """Return a text in one line, without what a terminal would take for commands."""
    return " ".join(CONTROL.sub(" ", text).split())


def harmless(cell: Any) -> Any:
    """Put an apostrophe before a text that a spreadsheet would run as a formula."""
    if not isinstance(cell, str) or cell[:1] not in FORMULA:
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def aligned_table(rows: Sequence[Sequence[str]], left: Container[int] = (0,)) -> str:
    """Align the columns of a table, those in `left` to the left and the others to the right.

    Parameters
    ----------
    rows : sequence of sequences of str
        The header is the first; all of one length.
    left : container of int
        Indices of columns.
    """
    cells = [[shown(cell) for cell in row] for row in rows]
    columns = list(zip(*cells, strict=True))
    widths = [max(map(len, column)) for column in columns]
    put: list[Callable[[str, int], str]] = [
        str.ljust if i in left else str.rjust for i in range(len(columns))
    ]
    return "\n".join(
        "  ".join(align(cell, w) for align, cell, w in zip(put, row, widths, strict=True)).rstrip()
        for row in cells
    )


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table in markdown, a line for each row whatever its cells contain.

    Parameters
    ----------
    header : sequence of str
    rows : iterable of sequences of str
    """
    table = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in row) + " |"
        for row in table
    )
