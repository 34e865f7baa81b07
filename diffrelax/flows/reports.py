"""What is told of results: rows, tables and files."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from diffrelax.atomic import replacing
from diffrelax.dft import DFTSettings
from diffrelax.extras import find_extra
from diffrelax.files.writing import WRITERS, check_output, write_molecules
from diffrelax.flows.summary import Summary
from diffrelax.results.documents import (
    FailureDocument,
    MinimisationDocument,
    MoleculeDocument,
    RelaxationDocument,
    ResultDocument,
    StaticDocument,
)
from diffrelax.results.tables import aligned_table

TABLES = (".csv", ".parquet")
COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "name": ("name", str),
    "stage": ("stage", str),
    "level": ("level", str),
    "state": ("state", str),
    "energy / eV": ("energy_ev", "{:.4f}".format),
    "fmax / eV/Å": ("fmax", "{:.4f}".format),
    "calls": ("gradient_calls", str),
    "seconds": ("seconds", "{:.1f}".format),
    "reason": ("reason", str),
}


def result_row(document: ResultDocument) -> dict[str, Any]:
    """Return what is told of a result: flat, None where not known, the same keys for all kinds."""
    row: dict[str, Any] = {
        "name": document.name,
        "smiles": None,
        "kind": document.kind,
        "stage": "relax",
        "level": None,
        "criterion": None,
        "state": "failed",
        "reason": document.reason,
        "energy_ev": None,
        "fmax": None,
        "gradient_calls": None,
        "scf_cycles": None,
        "seconds": None,
        "model": document.provenance.model or None,
        "host": document.provenance.host,
        "version": document.provenance.version,
        "finished": document.provenance.finished.isoformat(),
        "key": document.key,
    }
    if molecule := geometry(document):
        row["smiles"] = molecule.smiles or None
    if isinstance(document, FailureDocument):
        return row | {"stage": document.stage}
    row["seconds"] = document.seconds["total"]
    if isinstance(document, RelaxationDocument):
        return row | {"state": document.verdict}
    row |= {"stage": document.level, "level": level_of(document), "energy_ev": document.energy}
    if isinstance(document, StaticDocument):
        return row | {"state": "calculated"}
    return row | {
        "criterion": document.criterion,
        "state": document.state,
        "fmax": document.fmax,
        "gradient_calls": document.gradient_calls,
        "scf_cycles": document.scf_cycles,
    }


def level_of(document: ResultDocument) -> str | None:
    """Return the level of theory of a result, such as ``pbe/def2-svp``; none without one."""
    if not isinstance(document, (MinimisationDocument, StaticDocument)):
        return None
    if document.level != "dft":
        return document.level
    entries = ("xc", "basis", "solvent")
    chosen = {key: value for key, value in document.settings.items() if key in entries}
    return DFTSettings(**chosen).theory


def geometry(document: ResultDocument) -> MoleculeDocument | None:
    """Return the geometry that a result is about; none of a failure."""
    if isinstance(document, (RelaxationDocument, MinimisationDocument)):
        return document.output
    return document.input if isinstance(document, StaticDocument) else None


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Lay rows out for people; columns that are empty throughout are left out."""
    columns: list[tuple[str, ...]] = []
    left: set[int] = set()
    for title, (key, show) in COLUMNS.items():
        column = ["" if row.get(key) is None else show(row[key]) for row in rows]
        if any(column):
            if show is str and key != "gradient_calls":
                left.add(len(columns))
            columns.append((title, *column))
    return aligned_table(list(zip(*columns, strict=True)), left)


def summary_table(summary: Summary) -> str:
    """Lay the account of a flow out for people: a line for each input, then the counts."""
    rows = [row.model_dump() | {"energy_ev": row.energy} for row in summary.rows]
    counts = ", ".join(f"{n} {state}" for state, n in summary.counts.items())
    return f"{table(rows)}\n{len(rows)} inputs: {counts}"


def check_export(path: Path) -> None:
    """Find out whether results can be written to a path.

    Raises
    ------
    ValueError, OSError
        See `diffrelax.files.writing.check_output`; also if a package is missing for the format.
    """
    check_output(path, (*WRITERS, *TABLES))
    if path.suffix.lower() == ".parquet":
        find_extra("pyarrow", "parquet", f"{path}: a .parquet file")


def export(path: Path, documents: Sequence[ResultDocument]) -> int:
    """Write results to a file: tables have all of them, geometry files those with a geometry.

    Returns
    -------
    int
        How many were written.

    Raises
    ------
    ValueError
        If none has a geometry, and the file is to have geometries.
    """
    rows = [result_row(document) for document in documents]
    suffix = path.suffix.lower()
    if suffix in TABLES:
        with replacing(path) as part:
            (_write_csv if suffix == ".csv" else _write_parquet)(part, rows)
        return len(rows)
    pairs = [(g, row) for d, row in zip(documents, rows, strict=True) if (g := geometry(d))]
    if not pairs:
        raise ValueError(f"none of the {len(rows)} results has a geometry: {path} was not made")
    infos = [{k: v for k, v in row.items() if k not in ("name", "smiles")} for _, row in pairs]
    write_molecules(path, [g.to_molecule() for g, _ in pairs], infos)
    return len(pairs)


def _write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _write_parquet(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
