"""What the command line tells of each molecule: rows, printed and written."""

from __future__ import annotations

import json
import sys
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffrelax.writing import write_molecules

if TYPE_CHECKING:
    from diffrelax.benchmark.starts import Arm
    from diffrelax.molecule import Molecule
    from diffrelax.relaxation import Relaxation

DFT_COLUMNS = (
    "level", "criterion", "optimizer", "hessian", "density_fit", "check_minimum", "converged",
    "gradient_calls", "scf_cycles", "fmax", "lowest_frequency", "energy_ev", "excess_ev",
)  # fmt: skip


def relaxation_row(result: Relaxation) -> dict[str, Any]:
    """Return what is told of a relaxation: one row for each molecule, None where not known.

    Energies in eV, lengths in Å, forces in eV/Å, frequencies in cm⁻¹, times in seconds.
    """
    molecule = result.molecule
    return {
        "name": result.name,
        "smiles": (molecule.smiles or None) if molecule else None,
        "charge": molecule.charge if molecule else None,
        "multiplicity": molecule.multiplicity if molecule else None,
        "verdict": result.verdict,
        "reason": result.reason,
        "start": result.start.start if result.start else None,
        "noise_level": result.noise_level if result.n_evaluations else None,
        "n_evaluations": result.n_evaluations,
        "error_bound": None if isnan(result.error_bound) else result.error_bound,
        **dict.fromkeys(DFT_COLUMNS),
        "seconds": result.seconds,
        "symbols": molecule.symbols if molecule else None,
        "positions": molecule.positions.tolist() if molecule else None,
    }


def dft_columns(arm: Arm, excess: float | None) -> dict[str, Any]:
    """Return the entries of a row that a DFT relaxation fills."""
    told: dict[str, Any] = dict.fromkeys(DFT_COLUMNS)
    told |= {"converged": arm.converged, "seconds": arm.seconds, "excess_ev": excess}
    if arm.dft:
        settings = arm.dft.settings
        told |= settings.model_dump(include=set(DFT_COLUMNS))
        told |= {
            "level": settings.theory,
            "criterion": arm.dft.criterion,
            "gradient_calls": arm.dft.gradient_calls,
            "scf_cycles": arm.dft.scf_cycles,
            "fmax": arm.dft.fmaxes[-1] if arm.dft.fmaxes else None,
            "lowest_frequency": arm.dft.lowest_frequency,
            "energy_ev": arm.dft.energy if arm.dft.energies else None,
        }
    return told


def report(
    rows: list[dict[str, Any]],
    output: Path | None,
    molecules: list[Molecule | None],
    json_lines: bool,
    first: int = 0,
) -> None:
    """Write the molecules of all rows if there is an output; print the rows from the first on."""
    try:
        if output and any(molecules):
            _write_rows(output, rows, molecules)
    finally:  # what cannot be written is shown at least
        for row in rows[first:]:
            _show_row(row, json_lines)


def _show_row(row: dict[str, Any], json_lines: bool) -> None:
    """Print a row on standard output, for people or as a JSON object."""
    if json_lines:
        print(json.dumps(row, ensure_ascii=False), flush=True)
        return
    status = row["verdict"]
    if row["converged"] is not None and row["gradient_calls"] is None:
        status += ", no DFT"
    elif row["converged"] is not None:
        ending = "converged" if row["converged"] else "not converged"
        calls = row["gradient_calls"]
        status += f", {ending} after {calls} gradient call{'' if calls == 1 else 's'}"
        status += f" and {row['seconds']:.1f} s"
    elif row["error_bound"] is not None:
        status += f" (error bound {row['error_bound']:.2g} Å)"
    reason = f": {row['reason']}" if row["reason"] else ""
    charge, multiplicity = row["charge"], row["multiplicity"]
    if charge or (multiplicity or 1) > 1:
        status = f"charge {charge:+d}, multiplicity {multiplicity}  {status}"
    print(f"{row['name']}  {status}{reason}", flush=True)


def _write_rows(output: Path, rows: list[dict[str, Any]], molecules: list[Molecule | None]) -> None:
    """Write the molecules that have a geometry, their rows beside them."""
    hidden = ("name", "smiles", "charge", "multiplicity", "symbols", "positions", "arms")
    pairs = [
        (molecule, {key: value for key, value in row.items() if key not in hidden})
        for row, molecule in zip(rows, molecules, strict=True)
        if molecule is not None
    ]
    write_molecules(output, [m for m, _ in pairs], [info for _, info in pairs])


def announce(
    output: Path | None, rows: list[dict[str, Any]], molecules: list[Molecule | None]
) -> None:
    """Say on standard error how many geometries were written."""
    written = sum(m is not None for m in molecules)
    if output and written:
        missing = len(rows) - written
        note = f"; {missing} without a geometry are not in it" if missing else ""
        print(f"{written} geometries in {output}{note}", file=sys.stderr)
    elif output:
        print(f"no geometry to write: {output} was not made", file=sys.stderr)
