"""Whether relaxations from beside the wells of torsion drives at MP2 end in these wells.

Run: OMP_NUM_THREADS=1 python analysis/torsions.py DRIVES.extxyz.gz MODEL OUTPUT.json
Goes on where it was stopped.

A drive has a molecule at 24 values of a torsion, relaxed at each. Its wells are the minima of the
energy along it whose lower barrier is 0.2 kcal/mol or more; the bottom of a well is that of the
parabola through three points. From the geometries 15 degrees to either side a molecule is relaxed
at each cheap level of theory and with the model, which is asked for the level that is nearest to
MP2. An end is in the well if its torsion lies between the tops of the barriers.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import ase
import ase.io
import numpy as np
from records import how_made, store
from tqdm import tqdm

from diffrelax.levels.batch import relax_many
from diffrelax.models.release import Model, load_model
from diffrelax.molecule import Molecule
from diffrelax.molecule.identity import identity_change
from diffrelax.relaxation import relax_molecules
from diffrelax.results.tables import markdown_table
from diffrelax.units import HARTREE, KCAL_PER_MOL

STEP = 15  # degrees
SHALLOWEST = 0.2  # kcal/mol
LEVELS = ("mmff94", "gfn2-xtb", "aimnet2")
LEVEL = "M06-2X/def2-TZVP"
FMAX = 0.01  # eV/Å


class Well(NamedTuple):
    """A well of a drive; places in points of the drive, from its first."""

    bottom: float
    below: float
    above: float
    depth: float
    sides: tuple[int, int]


def main(path: Path, name: str, output: Path) -> None:
    """Relax what the file does not hold yet, and print the table."""
    model = load_model(name)
    found: dict[str, Any] = (
        json.loads(output.read_text(encoding="utf-8"))["drives"] if output.exists() else {}
    )
    about = how_made(model) | {"level_of_the_model": LEVEL, "fmax_eV_per_A": FMAX}
    for smiles, frames in tqdm(drives(path).items(), unit="drive"):
        if smiles not in found:
            found[smiles] = measured(frames, model)
            store(output, about | {"drives": found})
    print(table(found))


def drives(path: Path) -> dict[str, list[ase.Atoms]]:
    """Return the geometries of each drive by their angle."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        frames = ase.io.read(StringIO(file.read()), index=":", format="extxyz")
    found: dict[str, list[ase.Atoms]] = {}
    for frame in frames:
        found.setdefault(f"{frame.info['smiles']} {frame.info['dihedral']}", []).append(frame)
    return {key: sorted(some, key=lambda f: f.info["angle"]) for key, some in found.items()}


def measured(frames: list[ase.Atoms], model: Model) -> dict[str, Any]:
    """Relax from both sides of each well."""
    dihedral = [int(i) for i in frames[0].info["dihedral"]]
    rows = []
    energies = np.array([frame.info["energy_hartree"] for frame in frames])
    wells = list(wells_of(energies * HARTREE / KCAL_PER_MOL))
    starts = [molecule_of(frames[side]) for well in wells for side in well.sides]
    ends = {level: relax_many(starts, level, fmax=FMAX) for level in LEVELS}
    relaxed = relax_molecules(starts, model, level=LEVEL)
    of_starts = [well for well in wells for _ in well.sides]
    for i, (well, start) in enumerate(zip(of_starts, starts, strict=True)):
        row: dict[str, Any] = {"bottom": well.bottom, "depth": well.depth}
        places = {level: ends[level][i].positions for level in LEVELS}
        end = relaxed[i].molecule
        places["model"] = start.positions if end is None else end.positions
        for way, positions in {"start": start.positions, **places}.items():
            angle = start.with_positions(positions).to_atoms().get_dihedral(*dihedral)
            off = (angle - STEP * (well.bottom - 11) + 180) % 360 - 180
            inside = -STEP * well.below < off < STEP * well.above
            same = not identity_change(start, positions)
            row[way] = {"off": round(float(off), 2), "in_well": bool(inside and same)}
        rows.append(row)
    return {"charge": int(frames[0].info["charge"]), "ends": rows}


def molecule_of(frame: ase.Atoms) -> Molecule:
    """Return a geometry as a molecule with the bonds of its SMILES."""
    atoms = ase.Atoms(frame.numbers, frame.positions, info={"smiles": frame.info["smiles"]})
    return Molecule.from_atoms(atoms, charge=int(frame.info["charge"]))


def wells_of(energies: np.ndarray) -> Iterator[Well]:
    """Yield the wells of a periodic curve; places count in its points."""
    n = len(energies)
    for i in range(n):
        low, here, high = energies[i - 1], energies[i], energies[(i + 1) % n]
        if not (here <= low and here < high):
            continue
        up = [_climb(energies, i, step) for step in (-1, 1)]
        depth = min(height for _, height in up)
        if depth < SHALLOWEST:
            continue
        curvature = low - 2 * here + high
        bottom = i + 0.5 * (low - high) / curvature
        shift = bottom - i
        yield Well(bottom, up[0][0] + shift, up[1][0] - shift, depth, ((i - 1) % n, (i + 1) % n))


def _climb(energies: np.ndarray, place: int, step: int) -> tuple[int, float]:
    """Return how many points away the top of the barrier is, and its height."""
    n, far = len(energies), 1
    while far < n and energies[(place + step * (far + 1)) % n] > energies[(place + step * far) % n]:
        far += 1
    return far, float(energies[(place + step * far) % n] - energies[place])


def table(found: dict[str, Any]) -> str:
    """Show the share in the well, and how far off its bottom these are."""
    rows = []
    for way in ("start", *LEVELS, "model"):
        ends = [end[way] for drive in found.values() for end in drive["ends"]]
        inside = [abs(end["off"]) for end in ends if end["in_well"]]
        quartiles = (f"{np.quantile(inside, q):.1f}" for q in (0.5, 0.75, 0.9))
        rows.append((way, str(len(ends)), f"{len(inside) / len(ends):.1%}", *quartiles))
    header = ("way", "ends", "in the well", "off, degrees: median", "75%", "90%")
    return markdown_table(header, rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
