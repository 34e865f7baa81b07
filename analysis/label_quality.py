"""How near released labels, minima by AIMNet2, are to those of DFT at AIMNet2's level.

Run: OMP_NUM_THREADS=1 python analysis/label_quality.py RELEASE OUTPUT.json N

Of training molecules, N with up to three heavy atoms, N with four and N with five or six, by the
sha256 of their SMILES. From each minimum DFT relaxes to 0.01 eV/Å, from a Hessian of AIMNet2. A
molecule takes one to ten minutes; OUTPUT.json and a table beside it are written after each, and the
same command goes on.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from reach_cases import heavy_atoms, load_labels
from records import how_made, store
from tqdm.auto import tqdm

from diffrelax.atomic import write_text
from diffrelax.data.minima import Minimum, molecule_of
from diffrelax.dft import DFTSettings
from diffrelax.dft.optimization import relax_with
from diffrelax.files.values import plain_values
from diffrelax.geometry import geometry_errors
from diffrelax.levels.distances import AIMNET2
from diffrelax.results.tables import markdown_table
from diffrelax.units import KCAL_PER_MOL

LABELS = AIMNET2
LEVEL = DFTSettings(xc="wb97m-d3bj", basis="def2-tzvpp", fmax=0.01, hessian="aimnet2")
SIZES = (range(1, 4), range(4, 5), range(5, 7))  # heavy atoms


def main(release: Path, output: Path, n: int) -> None:
    """Relax what has not been relaxed."""
    known = json.loads(output.read_text(encoding="utf-8"))["molecules"] if output.exists() else []
    rows = {row["smiles"]: row for row in known}
    for one in tqdm(list(chosen(load_labels(release)[LABELS], n)), unit="mol", disable=None):
        if one.smiles not in rows:
            rows[one.smiles] = compared(one)
            found = list(rows.values())
            made = how_made(shared=True, level=LEVEL.model_dump())
            store(output, made | {"molecules": found})
            write_text(output.with_suffix(".md"), page(found))


def chosen(labels: Sequence[Minimum], n: int) -> Iterator[Minimum]:
    """Yield molecules of each size."""
    ordered = sorted(
        (one for one in labels if one.split == "train"),
        key=lambda one: sha256(one.smiles.encode()).hexdigest(),
    )
    for sizes in SIZES:
        yield from [one for one in ordered if heavy_atoms(one.numbers) in sizes][:n]


def compared(one: Minimum) -> dict[str, Any]:
    """Relax a label with DFT, and tell how far it was off."""
    row = {"smiles": one.smiles, "charge": one.charge, "heavy": heavy_atoms(one.numbers)}
    start = molecule_of(one)
    if start is None:
        return row | {"reason": "its bonds cannot be perceived"}
    end = relax_with(start, LEVEL)
    if not end.converged:
        return row | {"reason": end.reason}
    errors = geometry_errors(one.numbers, start.positions, end.molecule.positions)
    found = {
        "reason": "",
        "calls": end.gradient_calls,
        "fmax": end.fmaxes[0],
        "above": (end.energies[0] - end.energy) / KCAL_PER_MOL,
        "bonds": errors.bonds,
        "angles": errors.angles,
        "rmsd": errors.rmsd,
    }
    return row | plain_values(found)


def page(rows: Sequence[dict[str, Any]]) -> str:
    """Show medians of each size, and each molecule."""
    lines = []
    for sizes in SIZES:
        of_size = [row for row in rows if row["heavy"] in sizes]
        ended = [row for row in of_size if not row["reason"]]
        if ended:
            keys = ("fmax", "above", "bonds", "angles", "rmsd")
            medians = [f"{np.nanmedian(numbers(ended, key)):.3g}" for key in keys]
            largest = [f"{np.nanmax(numbers(ended, key)):.3g}" for key in keys]
            cells = [f"{a} ({b})" for a, b in zip(medians, largest, strict=True)]
            size = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else str(sizes[0])
            lines.append((size, f"{len(ended)} of {len(of_size)}", *cells))
    header = (
        "heavy atoms", "molecules", "first force, eV/Å", "above the minimum, kcal/mol",
        "bonds, mÅ", "1–3 distances, mÅ", "RMSD, Å",
    )  # fmt: skip
    single = [
        (
            f"`{row['smiles']}`",
            row["reason"] or f"{row['above']:.3f}",
            *(f"{1e3 * row[key]:.1f}" if not row["reason"] else "" for key in ("bonds", "angles")),
        )
        for row in rows
    ]
    names = ("molecule", "above the minimum, kcal/mol", "bonds, mÅ", "1–3 distances, mÅ")
    return "\n\n".join(
        [
            f"Labels against minima of {LEVEL.level} (PySCF) to which they relax; medians, and in "
            "brackets the largest.",
            markdown_table(header, lines),
            markdown_table(names, single) + "\n",
        ]
    )


def numbers(rows: Sequence[dict[str, Any]], key: str) -> np.ndarray:
    """Return one quantity of molecules, distances of bonds in mÅ."""
    values = [np.nan if row[key] is None else row[key] for row in rows]
    return np.array(values, dtype=float) * (1e3 if key in ("bonds", "angles") else 1.0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
