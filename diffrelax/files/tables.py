"""Text tables with a header and a column of SMILES or InChI."""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from itertools import chain
from typing import Any

from diffrelax.errors import InputError
from diffrelax.files import smiles
from diffrelax.files.values import ReadOptions, plain_number
from diffrelax.molecule import Molecule
from diffrelax.molecule.checks import integer

DELIMITERS = ",;\t"
SMILES = ("smiles", "isomericsmiles", "isosmiles", "canonicalsmiles")  # best first
STATE = ("charge", "multiplicity")
NAMES = ("name", "title", "id", "molecule", "compound")


def cut(lines: Iterable[str]) -> Iterator[str]:
    """Yield each row as a table with the header.

    An unclosed quote only affects its own line.

    Raises
    ------
    ValueError
        If there is no column of SMILES or InChI.
    """
    lines = iter(lines)
    first = next((line for line in lines if line.strip()), "")
    if not first:
        return
    headers = {d: next(csv.reader([first], delimiter=d)) for d in DELIMITERS}
    delimiter = max(DELIMITERS, key=lambda d: (bool(_shown(headers[d])), first.count(d)))
    header = headers[delimiter]
    if not _shown(header):
        raise InputError(f"no SMILES column among {', '.join(header)}: name one smiles or inchi")
    for row in _rows(lines, header, delimiter):
        if any(cell.strip() for cell in row):
            file = StringIO()
            csv.writer(file, lineterminator="\n").writerows([header, row])
            yield file.getvalue()


def _rows(lines: Iterator[str], header: list[str], delimiter: str) -> Iterator[list[str]]:
    """Yield the cells of rows; if a quoted SMILES or name spans lines, of one line only."""
    waiting: deque[str] = deque()
    taken: list[str] = []

    def source() -> Iterator[str]:
        while line := waiting.popleft() if waiting else next(lines, ""):
            taken.append(line)
            yield line

    places = [header.index(name) for name in _shown(header)]
    while True:
        taken.clear()
        try:
            row = next(csv.reader(source(), delimiter=delimiter, strict=True), None)
        except csv.Error:
            row = []
        if row is None:
            return
        structures, *names = (row[i] if i < len(row) else "" for i in places)
        if not row or "\n" in structures or any("\n" in x and delimiter in x for x in names):
            waiting.extendleft(reversed(taken[1:]))
            row = _cells(taken[0], delimiter)
        yield row


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter))
    except csv.Error:  # a cell longer than the csv module allows
        return line.split(delimiter)


def structure(record: str) -> str:
    """Return the SMILES or InChI."""
    row = _row(record)
    return row[_shown([*row])[0]]


def title(record: str) -> str:
    """Return the name, or the SMILES if there is none."""
    row = _row(record)
    return next((row[key] for key in reversed(_shown([*row])) if row[key]), "")


def properties(record: str) -> dict[str, Any]:
    """Return the other columns."""
    row = _row(record)
    shown = _shown([*row])
    return {
        key: plain_number(cell)
        for key, cell in row.items()
        if key not in shown and key.lower() not in STATE and cell
    }


def state(record: str) -> dict[str, int]:
    """Return charge and multiplicity, if the row has them."""
    cells = {key.lower(): plain_number(cell) for key, cell in _row(record).items() if cell}
    return {key: integer(key, cells[key]) for key in STATE if key in cells}


def parse(record: str, options: ReadOptions) -> Molecule:
    """Embed the SMILES or InChI of a row; its charge must match the column, if there is one."""
    charge, multiplicity = map(state(record).get, STATE)
    molecule = smiles.embed_text(structure(record), options, multiplicity)
    if charge not in (None, molecule.charge):
        raise InputError(
            f"the charge is {charge}, but that of the SMILES is {molecule.charge}: correct one of "
            "them"
        )
    return molecule


def _row(record: str) -> dict[str, str]:
    header, cells = csv.reader(StringIO(record, newline=""))
    padded = chain(cells, [""] * (len(header) - len(cells)))
    row: dict[str, str] = {}
    for key, cell in zip(header, padded, strict=False):
        row.setdefault(key.strip(), cell)
    structures, *names = (row[key] for key in _shown([*row]))
    if "\n" in structures or any(name.endswith("\n") for name in names):
        raise InputError("a quote is not closed at the end of the line: close it")
    return {key: cell.strip() for key, cell in row.items()}


def _shown(header: Sequence[str]) -> list[str]:
    """Return the columns of SMILES or InChI and of names, if they exist."""
    structures = _column(header, SMILES, ("smiles", "smiles string"))
    structures = structures or _column(header, (), ("inchi",))
    names = _column(header, NAMES, ("name", "_id", " id"))
    return [] if structures is None else list(filter(None, (structures, names)))


def _column(header: Sequence[str], names: Sequence[str], endings: tuple[str, ...]) -> str | None:
    """Return the column with the first matching name, or one whose name ends with it."""
    plain = {re.sub(r"[\s_]", "", key).lower(): key for key in reversed(header)}
    whole = (plain[name] for name in names if name in plain)
    partly = (key for key in header if key.strip().lower().endswith(endings))
    return next(chain(whole, partly), None)
