"""What to make of GFN2-xTB's Hessian before an optimizer starts from it.

Run: OMP_NUM_THREADS=1 python analysis/start_hessians.py MODEL PART.npz OUTPUT.json
Needs the package AcAuto3D. PART is one of datasets/wb97m-aimnet2-1. Goes on where it was stopped.

AIMNet2 stands in for DFT. Validation molecules with up to 20 heavy atoms are relaxed by `tric` to
0.03 eV/Å from the minima of MMFF94 and GFN2-xTB and from the end of the model. They start from
Hessians with and without what GFN2-xTB's forces add, with several floors of their eigenvalues.
"""

import json
import sys
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from labels import Part
from optimizers import SAME_BASIN, relaxed
from records import how_made, store
from tqdm import tqdm

from diffrelax.data.minima import embed_with_seed
from diffrelax.dft.hessian import positive_hessian
from diffrelax.dft.optimizers.internal import TRIC, without_forces
from diffrelax.dft.recorder import Recorder
from diffrelax.levels import get_calculator
from diffrelax.levels.tight_binding import gfn2_hessian
from diffrelax.models.release import Model, load_model
from diffrelax.molecule import Molecule
from diffrelax.molecule.comparison import heavy_atom_rmsd
from diffrelax.molecule.identity import identity_change
from diffrelax.relaxation import relax_molecules
from diffrelax.results.tables import markdown_table

N, MOST_HEAVY_ATOMS = 80, 20
LEVEL = "wB97M-D3/def2-TZVPP"  # of AIMNet2, which the model aims at
FMAX, STEPS = 0.03, 60  # eV/Å
FLOORS = (0.1, 0.25, 0.5, 1.0)  # eV/Å²
WITH, WITHOUT = "with forces", "without forces"


def main(name: str, part: Path, path: Path) -> None:
    """Measure the molecules that the file does not hold yet, and print the table."""
    model = load_model(name)
    about = how_made(model, shared=True, target="aimnet2", split="validation")
    found: dict[str, Any] = (
        json.loads(path.read_text(encoding="utf-8"))["molecules"] if path.exists() else {}
    )
    minima = [
        minimum
        for minimum in sorted(Part.load(part).minima, key=lambda one: _hash(one.smiles))
        if minimum.split == "validation" and (minimum.numbers > 1).sum() <= MOST_HEAVY_ATOMS
    ]
    for minimum in tqdm(list(islice(minima, N)), unit="mol"):
        if minimum.smiles in found:
            continue
        embedded = embed_with_seed(minimum)
        starts = starts_of(embedded.with_positions(minimum.positions), model) if embedded else None
        found[minimum.smiles] = starts and {
            start: calls_by_hessian(molecule) for start, molecule in starts.items()
        }
        store(path, about | {"molecules": found})
    print(table([record for record in found.values() if record]))


def starts_of(minimum: Molecule, model: Model) -> dict[str, Molecule] | None:
    """Return the starts of a minimum, or None unless all are the same molecule in its basin."""
    try:
        mmff94 = relaxed(minimum, "mmff94")
        (end,) = relax_molecules([mmff94], model, level=LEVEL)
        gfn2_xtb = relaxed(minimum, "gfn2-xtb")
    except ValueError:
        return None
    if end.verdict != "relaxed" or end.molecule is None:
        return None
    starts = {"MMFF94": mmff94, "GFN2-xTB": gfn2_xtb, "model": end.molecule}
    for start in starts.values():
        away = heavy_atom_rmsd(minimum, start) > SAME_BASIN
        if away or identity_change(minimum, start.positions):
            return None
    return starts


def calls_by_hessian(start: Molecule) -> dict[str, list[int]]:
    """Count the calls from Hessians of both kinds, one for each floor."""
    atoms = start.to_atoms()
    forces = get_calculator("gfn2-xtb", start).get_forces(atoms)
    hessian = gfn2_hessian(start)
    kinds = {WITH: hessian, WITHOUT: without_forces(hessian, forces, atoms)}
    return {
        kind: [
            count_calls(start, positive_hessian(one, start.positions, floor)) for floor in FLOORS
        ]
        for kind, one in kinds.items()
    }


class WithAnyFloor(TRIC):
    """TRIC that takes a Hessian as soft as it is."""

    @classmethod
    def softest(cls, fmax: float) -> float:
        """Return no floor."""
        return 0.0


def count_calls(start: Molecule, hessian: np.ndarray) -> int:
    """Count the calls of AIMNet2 until its largest force is small."""
    atoms = start.to_atoms()
    recorder = Recorder(start, get_calculator("aimnet2", start))
    atoms.calc = recorder
    WithAnyFloor(atoms, logfile=None, hessian=hessian).run(FMAX, STEPS)
    return len(recorder.calls)


def table(records: list[dict[str, dict[str, list[int]]]]) -> str:
    """Show means, and the share of those with up to three calls, where all have converged."""
    rows = []
    for start in records[0]:
        ended = [record for record in records if max(map(max, record[start].values())) <= STEPS]
        for kind in (WITH, WITHOUT):
            counts = np.array([record[start][kind] for record in ended])
            shown = [
                f"{mean:.2f} ({share:.0%})"
                for mean, share in zip(counts.mean(0), (counts <= 3).mean(0), strict=True)
            ]
            rows.append((start, str(len(ended)), kind, *shown))
    header = ("start", "molecules", "Hessian", *(f"floor {floor:g} eV/Å²" for floor in FLOORS))
    return "calls, mean (share of those with up to three)\n\n" + markdown_table(header, rows)


def _hash(smiles: str) -> str:
    return sha256(smiles.encode()).hexdigest()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
