"""Tables and counts as text, for people to read."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how one begins in a spreadsheet
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def counted(n: int, what: str) -> str:
    """Return a count with its noun: ``1 geometry``, ``2 geometries``.

    Parameters
    ----------
    n : int
    what : str
        Singular noun with a plural in -s or -ies.
    """
    if n == 1:
        return f"1 {what}"
    return f"{n} {what[:-1]}ies" if what.endswith("y") else f"{n} {what}s"


def shown(text: str) -> str:
    """Return a text in one line without control characters."""
    return " ".join(CONTROL.sub(" ", text).split())


def harmless(cell: Any) -> Any:
    """Prefix a text that a spreadsheet would take as a formula by an apostrophe."""
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
        The first row is the header.
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
    """Format a markdown table with one line per row.

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
