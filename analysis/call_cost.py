"""What other ways to a converged SCF would save of a gradient call.

Run: OMP_NUM_THREADS=1 python analysis/call_cost.py analysis/results/call_cost.json

For three validation molecules with five heavy atoms: two gradient calls, at the geometry of MMFF94
and, from the density of that, at the one of the model. The first SCF starts from each guess that
PySCF has; or both are first converged on a coarse integration grid. It goes on where it was
stopped.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from dft_speedup import B3LYP, MODEL, about, about_model, chosen
from records import store

from diffrelax.data.qm9 import load_qm9
from diffrelax.levels.density_functional import mean_field
from diffrelax.models.release import load_model
from diffrelax.molecule import Molecule
from diffrelax.relaxation import relax_molecules

HEAVY_ATOMS = range(5, 6)
N = 3
COARSE_TOLERANCE = 1e-5  # Hartree
LEVEL = B3LYP.mean_field

Density = np.ndarray | None
Prepare = Callable[[Molecule, Density], tuple[Any, Density]]


def guessed(guess: str, molecule: Molecule, density: Density) -> tuple[Any, Density]:
    """Start the first SCF from a guess of PySCF."""
    method = mean_field(molecule, **LEVEL)
    method.init_guess = guess
    return method, density


def coarse_first(grid_level: int, molecule: Molecule, density: Density) -> tuple[Any, Density]:
    """Converge on a coarse grid before."""
    coarse = mean_field(molecule, **LEVEL | {"grid_level": grid_level})
    coarse.conv_tol = COARSE_TOLERANCE
    coarse.kernel(dm0=density)
    return mean_field(molecule, **LEVEL), coarse.make_rdm1()


WAYS: dict[str, Prepare] = {
    **{guess: partial(guessed, guess) for guess in ("minao", "vsap", "huckel", "atom")},
    "grid 0, then 3": partial(coarse_first, 0),
    "grid 1, then 3": partial(coarse_first, 1),
}


def main(path: Path) -> None:
    """Try each way on each molecule, and write what was found after each."""
    found: list[dict[str, Any]] = (
        json.loads(path.read_text(encoding="utf-8"))["calls"] if path.exists() else []
    )
    done = {(one["name"], one["way"]) for one in found}
    model = load_model(MODEL)
    for subject in chosen(load_qm9("validation"), HEAVY_ATOMS, N):
        assert subject.base is not None
        relaxed = relax_molecules([subject.base], model)[0].molecule
        assert relaxed is not None
        for way, prepare in WAYS.items():
            if (subject.base.name, way) in done:
                continue
            density: Density = None
            for number, molecule in enumerate((subject.base, relaxed), start=1):
                row, density = call(molecule, density, prepare)
                found.append({"name": molecule.name, "smiles": molecule.smiles, "way": way,
                              "call": number, **row})  # fmt: skip
            store(path, about(B3LYP, "validation") | about_model(model) | {"calls": found})


def call(molecule: Molecule, density: Density, prepare: Prepare) -> tuple[dict[str, Any], Density]:
    """Calculate energy and gradient, and tell processor time, s, and cycles on the whole grid."""
    begun = time.process_time()
    method, density = prepare(molecule, density)
    cycles: list[float] = []
    method.callback = lambda environment: cycles.append(environment["e_tot"])
    energy = method.kernel(dm0=density)
    converged = time.process_time()
    gradient = method.nuc_grad_method().kernel()
    ended = time.process_time()
    row = {
        "energy_hartree": energy,
        "largest_gradient_hartree_per_bohr": float(np.abs(gradient).max()),
        "scf_cycles": len(cycles),
        "scf_seconds": round(converged - begun, 2),
        "gradient_seconds": round(ended - converged, 2),
    }
    return row, method.make_rdm1()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
