"""Tables and files of results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffrelax.atomic import replacing
from diffrelax.errors import InputError
from diffrelax.extras import find_extra
from diffrelax.files.writing import WRITERS, check_output, would_be_lost, write_molecules
from diffrelax.flows.summary import Summary
from diffrelax.results.documents import ResultDocument
from diffrelax.results.rows import ResultRow, csv_text, text_table
from diffrelax.results.tables import counted

TABLES = (".csv", ".parquet")
LISTED = (
    "name", "stage", "level", "state", "energy_ev", "gibbs_energy_quasi_harmonic_ev", "weight",
    "fmax", "gradient_calls", "seconds", "reason",
)  # fmt: skip
SUMMARISED = ("name", "stage", "state", "energy", "fmax", "gradient_calls", "seconds", "reason")


def summary_table(summary: Summary) -> str:
    """Format the summary of a flow: one line per input, then the counts."""
    states = ", ".join(f"{n} {state}" for state, n in summary.counts.items())
    inputs = counted(len(summary.rows), "input")
    return f"{text_table(summary.rows, SUMMARISED)}\n{inputs}: {states}"


def check_export(path: Path, *, overwrite: bool = False) -> None:
    """Check that results can be written to a path.

    Parameters
    ----------
    path : path
    overwrite : bool
        Whether to replace an existing file.

    Raises
    ------
    ValueError, OSError
        See `diffrelax.files.writing.check_output`; also if the file exists, or a package is
        missing for the format.
    """
    check_output(path, (*WRITERS, *TABLES))
    if path.exists() and not overwrite:
        raise would_be_lost(path)
    if path.suffix.lower() == ".parquet":
        find_extra("pyarrow", "parquet", f"{path}: a .parquet file")


def export(path: Path, documents: Sequence[ResultDocument]) -> int:
    """Write results to a file; geometry files have only those with a geometry.

    Returns
    -------
    int
        Number of results that were written.

    Raises
    ------
    ValueError
        If the file is a geometry file and no result has a geometry.
    """
    rows = [ResultRow.of(document).model_dump() for document in documents]
    suffix = path.suffix.lower()
    if suffix in TABLES:
        with replacing(path) as part:
            (_write_csv if suffix == ".csv" else _write_parquet)(part, rows)
        return len(rows)
    pairs = [(d.geometry, row) for d, row in zip(documents, rows, strict=True) if d.geometry]
    if not pairs:
        raise InputError(f"none of the {len(rows)} results has a geometry: {path} was not written")
    infos = [{k: v for k, v in row.items() if k not in ("name", "smiles")} for _, row in pairs]
    write_molecules(path, [geometry.to_molecule() for geometry, _ in pairs], infos)
    return len(pairs)


def _write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text(csv_text(list(rows[0]), [list(row.values()) for row in rows]), encoding="utf-8")


def _write_parquet(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
