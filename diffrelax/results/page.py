"""HTML reports: sortable tables, figures, and molecules drawn and in 3D.

The page is self-contained and works offline. Its molecules are drawn by 3Dmol.js (Rego and Koes
2015, doi 10.1093/bioinformatics/btu829): ``assets/3Dmol-min.js`` is ``build/3Dmol-min.js`` of the
npm package 3dmol 2.5.5, unchanged.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, TypeVar

import numpy as np
from jinja2 import Environment, Template
from markupsafe import Markup

from diffrelax.atomic import replacing
from diffrelax.files.writing import as_bytes
from diffrelax.geometry import superpose
from diffrelax.molecule import Molecule
from diffrelax.molecule.connectivity import near_pairs
from diffrelax.results.pictures import chart, drawing
from diffrelax.results.rows import UNKNOWN, Columns

MOST_ROW_CHARACTERS, MOST_GEOMETRY_CHARACTERS = 5_000_000, 4_000_000  # so that browsers open it
AT_ONCE = 200  # rows that a table shows at first
CELL_CHARACTERS, ROW_CHARACTERS = 10, 100  # around what is in it
NUMBER = re.compile(r"[-−+]?\d+\.?\d*(e[-+]?\d+)?%?( \[.*\])?", re.IGNORECASE)
SHORT, WIDE = 24, 40  # characters

Tone = Literal["", "good", "doubtful", "bad"]
UNWELL = ("doubtful", "bad")
T = TypeVar("T")


class Row(NamedTuple):
    """A row of a table, with its geometries in 3D.

    Parameters
    ----------
    cells : sequence of str
    view : int or None
        Index of a view of the page.
    frames : sequence of str
        Geometries shown initially. Default: the first and the last.
    tone : str
        Colour of the row: its status.
    """

    cells: Sequence[str]
    view: int | None = None
    frames: Sequence[str] = ()
    tone: Tone = ""


@dataclass(frozen=True)
class Table:
    """A table that is sorted by a click on a header.

    Parameters
    ----------
    title, text : str
    header : sequence of str
        Titles with units.
    rows : sequence of Row
    """

    title: str
    text: str
    header: Sequence[str]
    rows: Sequence[Row]

    @classmethod
    def of(cls, title: str, text: str, rows: Sequence[Columns]) -> Self:
        """Return a table of all columns of rows."""
        header = rows[0].header() if rows else ()
        return cls(title, text, header, [Row(row.cells()) for row in rows])

    @property
    def kinds(self) -> list[str]:
        """Kind of each column: ``number``, ``short`` or ``wide`` text, or empty."""
        return [_kind(column) for column in zip(*(row.cells for row in self.rows), strict=True)]

    @property
    def has_views(self) -> bool:
        """Whether any row has geometries."""
        return any(row.view is not None for row in self.rows)


class Figure(NamedTuple):
    """An image with a description."""

    title: str
    png: bytes

    @property
    def source(self) -> str:
        """The image as a data URL."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


@dataclass(frozen=True)
class View:
    """A molecule with one or more geometries.

    Parameters
    ----------
    name, smiles : str
    lines : sequence of str
        Lines of text about it.
    frames : mapping of str to Molecule
        Geometries by title.
    onto : str
        Title of the geometry onto which others are superposed. Default: the last.
    curves : mapping of str to sequence of float
        Largest force on an atom at each gradient call, eV/Å, by start.
    fmax : float, optional
        Convergence threshold, eV/Å.
    """

    name: str
    smiles: str
    lines: Sequence[str]
    frames: Mapping[str, Molecule]
    onto: str = ""
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    fmax: float | None = None


@dataclass(frozen=True)
class Page:
    """A report.

    Parameters
    ----------
    title, subtitle : str
    facts : mapping of str to str
        Main results, shown at the top.
    sections : sequence of Table or Figure
        At most one table has views.
    views : sequence of View
    made : mapping of str to value
        Provenance: command, model, level and so on, plain values.
    elsewhere : str
        Where all rows and geometries are, if the page cannot hold them.
    """

    title: str
    subtitle: str
    facts: Mapping[str, str]
    sections: Sequence[Table | Figure]
    views: Sequence[View]
    made: Mapping[str, Any]
    elsewhere: str = field(kw_only=True)

    def write(self, path: Path) -> None:
        """Write the page atomically.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        order = self._order()
        records = (
            (_geometries(view), drawing(view.smiles)) for view in map(self.views.__getitem__, order)
        )
        views = _fitting(records, MOST_GEOMETRY_CHARACTERS, lambda record: sum(map(len, record)))
        scripts = [Markup(_asset("3Dmol-min.js")), Markup(_asset("page.js"))]
        text = _template().render(
            page=self,
            made=_described(self.made),
            at_once=AT_ONCE,
            views=[Markup(view) for view, _ in views],
            drawings={index: Markup(svg) for index, (_, svg) in zip(order, views, strict=False)},
            places={index: place for place, index in enumerate(order[: len(views)])},
            fitting=lambda rows: _fitting(rows, MOST_ROW_CHARACTERS, _length),
            style=Markup(_asset("page.css")),
            scripts=scripts,
            hashes=[_hash(script) for script in scripts],
            licence=_asset("3Dmol-LICENSE.txt"),
            version=version("diffrelax"),
        )
        with replacing(path) as part:
            part.write_bytes(as_bytes(path, text))

    def _order(self) -> list[int]:
        """Return the indices of the views, those of unsuccessful rows first."""
        tables = [section for section in self.sections if isinstance(section, Table)]
        unwell = {row.view for table in tables for row in table.rows if row.tone in UNWELL}
        return sorted(range(len(self.views)), key=lambda index: index not in unwell)


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_asset("page.html"))


@cache
def _asset(name: str) -> str:
    return files("diffrelax.results").joinpath("assets", name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """Return the hash of a script for the content security policy."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _fitting(things: Iterable[T], most: int, size: Callable[[T], int]) -> list[T]:
    """Keep the first items up to a total size."""
    kept, total = [], 0
    for thing in things:
        total += size(thing)
        if total > most:
            break
        kept.append(thing)
    return kept


def _kind(cells: Sequence[str]) -> str:
    known = [cell for cell in cells if cell not in ("", UNKNOWN)]
    if known and all(map(NUMBER.fullmatch, known)):
        return "number"
    longest = max(map(len, known), default=0)
    return "short" if longest <= SHORT else "wide" if longest > WIDE else ""


def _length(row: Row) -> int:
    return ROW_CHARACTERS + sum(CELL_CHARACTERS + len(cell) for cell in row.cells)


def _described(made: Mapping[str, Any]) -> dict[str, str]:
    known = {name: value for name, value in made.items() if value not in (None, "", [], {})}
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in known.items()
    }


def _geometries(view: View) -> str:
    """Return a view as JSON: positions in 0.1 mÅ, bonds as triples."""
    chosen = view.frames[view.onto] if view.onto else list(view.frames.values())[-1]
    target = chosen.with_positions(_flat(chosen.positions))
    record = {
        "name": view.name,
        "smiles": view.smiles,
        "lines": list(view.lines),
        "state": f"{target.charge} {target.multiplicity}",
        "chart": chart(view.curves, view.fmax),
        **_constitution(target),
        "frames": [_frame(label, one, target) for label, one in view.frames.items()],
    }
    return json.dumps(record, separators=(",", ":")).replace("<", "\\u003c")


def _frame(label: str, molecule: Molecule, target: Molecule) -> dict[str, Any]:
    positions, apart, moved = _flat(molecule.positions), 0.0, ""
    if _same_atoms(molecule, target):
        positions, apart = superpose(molecule.positions, target.positions)
        farthest = np.linalg.norm(positions - target.positions, axis=1).argmax()
        moved = f"{molecule.symbols[farthest]}{farthest + 1}"
    own = _constitution(molecule)
    return {
        "label": label,
        "apart": round(apart, 4) or None,
        "moved": moved,
        "positions": (10_000 * positions).round().astype(int).ravel().tolist(),
        **(own if own != _constitution(target) else {}),
    }


def _constitution(molecule: Molecule) -> dict[str, Any]:
    bonds = [list(bond) for bond in molecule.bonds]
    if not bonds:
        bonds = [[*two, 1] for two in near_pairs(molecule.numbers, molecule.positions).tolist()]
    return {"symbols": " ".join(molecule.symbols), "bonds": bonds}


def _flat(positions: np.ndarray) -> np.ndarray:
    """Rotate a geometry such that its longest axis is x and its shortest z."""
    centred = positions - positions.mean(axis=0)
    axes = np.linalg.svd(centred)[2]
    return centred @ (axes * [[1.0], [1.0], [np.linalg.det(axes)]]).T


def _same_atoms(one: Molecule, other: Molecule) -> bool:
    """Return whether atoms have the same order, judged by bonds."""
    bonds = [{bond[:2] for bond in molecule.bonds} for molecule in (one, other)]
    return np.array_equal(one.numbers, other.numbers) and (bonds[0] == bonds[1] or not all(bonds))
