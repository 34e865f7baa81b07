"""Tables of text with a header, one of whose columns holds SMILES or InChI."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from itertools import chain
from typing import Any

from diffrelax.files import smiles
from diffrelax.files.values import plain_number
from diffrelax.molecule import Molecule

DELIMITERS = ",;\t"
STRUCTURES = ("smiles", "canonical_smiles", "isomeric_smiles", "inchi")
NAMES = ("name", "title", "id", "molecule", "compound")


def cut(lines: Iterable[str]) -> Iterator[str]:
    """Yield a table of one row for each row.

    Raises
    ------
    ValueError
        If no column has a name that says SMILES or InChI.
    """
    lines = iter(lines)
    first = next((line for line in lines if line.strip()), "")
    if not first:
        return
    delimiter = max(DELIMITERS, key=first.count)
    header, *_ = csv.reader([first], delimiter=delimiter)
    if _structures(header) is None:
        raise ValueError(
            f"no column of SMILES among {', '.join(header)}: name one of them smiles, or inchi"
        )
    for row in csv.reader(lines, delimiter=delimiter):
        if any(cell.strip() for cell in row):
            file = StringIO()
            csv.writer(file, lineterminator="\n").writerows([header, row])
            yield file.getvalue()


def structure(record: str) -> str:
    """Return the SMILES or InChI."""
    row = _row(record)
    return row[_structure_of(row)]


def title(record: str) -> str:
    """Return what stands in the column of names, or the SMILES."""
    row = _row(record)
    name = _column([*row], NAMES, ("name", "_id", " id"))
    return (row[name] if name else "") or row[_structure_of(row)]


def properties(record: str) -> dict[str, Any]:
    """Return the other columns."""
    row = _row(record)
    shown = {_structure_of(row), _column([*row], NAMES, ("name", "_id", " id"))}
    return {key: plain_number(cell) for key, cell in row.items() if key not in shown and cell}


def parse(record: str, name: str, seed: int, max_atoms: int | None = None) -> Molecule:
    """Embed the SMILES or InChI of a row."""
    return smiles.embed_text(structure(record), name, seed, max_atoms)


def _row(record: str) -> dict[str, str]:
    header, cells = csv.reader(StringIO(record, newline=""))
    padded = chain(cells, [""] * (len(header) - len(cells)))
    return {key.strip(): cell.strip() for key, cell in zip(header, padded, strict=False)}


def _structure_of(row: dict[str, str]) -> str:
    found = _structures([*row])
    assert found is not None
    return found


def _structures(header: Sequence[str]) -> str | None:
    return _column(header, STRUCTURES, ("smiles",))


def _column(header: Sequence[str], names: Sequence[str], endings: tuple[str, ...]) -> str | None:
    """Return the column of the first of some names, or else one whose name ends so."""
    plain = {key.strip().lower(): key for key in reversed(header)}
    whole = (plain[name] for name in names if name in plain)
    partly = (key for key in header if key.strip().lower().endswith(endings))
    return next(chain(whole, partly), None)
