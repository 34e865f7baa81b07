"""How many calls optimizers take to several stopping rules, where calls cost next to nothing.

Run: OMP_NUM_THREADS=1 python analysis/optimizers.py analysis/results/optimizers.json
Needs the package AcAuto3D. Goes on where it was stopped.

GFN2-xTB stands in for DFT, and AIMNet2 for the cheap level: optimizers start from its Hessian, and
its minimum is one of the starts. The model does not aim at GFN2-xTB, so its start is the minimum of
GFN2-xTB, displaced by what its end differs from the published minimum of the molecule.
"""

import json
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from ase.units import Bohr, Hartree
from dft_speedup import MODEL, chosen
from geometric.optimize import calc_drms_dmax
from records import how_made, store
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from diffrelax.data.qm9 import load_qm9
from diffrelax.dft.optimizers import find_optimizer
from diffrelax.dft.optimizers.internal import GEOMETRIC_THRESHOLDS
from diffrelax.dft.recorder import Recorder
from diffrelax.geometry import superpose
from diffrelax.levels import get_calculator, relax_at_level
from diffrelax.levels.aimnet2 import AIMNet2
from diffrelax.models.release import Model, load_model
from diffrelax.molecule import Molecule
from diffrelax.molecule.comparison import heavy_atom_rmsd
from diffrelax.molecule.identity import identity_change
from diffrelax.relaxation import relax_molecules
from diffrelax.results.tables import markdown_table
from diffrelax.units import KCAL_PER_MOL

N = 40
HEAVY_ATOMS = range(5, 10)
OPTIMIZERS = ("geometric", "bfgs")  # the former takes the steps of tric
FMAX, STEPS = 0.003, 200  # eV/Å
SAME_BASIN = 0.3  # Å
LARGEST_FORCES = (0.03, 0.01, 0.003)  # eV/Å
FORCE = Hartree / Bohr  # eV/Å
UNITS = {"energy": Hartree, "grms": FORCE, "gmax": FORCE, "drms": 1.0, "dmax": 1.0}

Path_: TypeAlias = dict[str, list[Any]]


def main(path: Path) -> None:
    """Measure the molecules that the file does not hold yet, and print the tables."""
    model = load_model(MODEL)
    about = how_made(model) | {
        "split": f"validation, {N} molecules of {HEAVY_ATOMS[0]} to {HEAVY_ATOMS[-1]} heavy atoms",
        "target": "gfn2-xtb",
        "hessian": "aimnet2",
    }
    found: dict[str, Any] = (
        json.loads(path.read_text(encoding="utf-8"))["molecules"] if path.exists() else {}
    )
    for subject in tqdm(list(chosen(load_qm9("validation"), HEAVY_ATOMS, N)), unit="mol"):
        if subject.name not in found:
            found[subject.name] = measure(subject.known["qm9"], model)
            store(path, about | {"molecules": found})
    print(tables([record for record in found.values() if "reason" not in record]))


def measure(published: Molecule, model: Model) -> dict[str, Any]:
    """Relax a molecule from every start with every optimizer."""
    minimum = relaxed(published, "gfn2-xtb")
    cheap = {level: relaxed(minimum, level) for level in ("mmff94", "aimnet2")}
    (end,) = relax_molecules([relaxed(published, "mmff94")], model)
    assert end.molecule is not None
    starts = cheap | {"model": displaced(minimum, published, end.molecule)}
    for name, molecule in {"minimum": minimum, "end": end.molecule, **cheap}.items():
        if reason := identity_change(published, molecule.positions):
            return {"smiles": published.smiles, "reason": f"{name}: {reason}"}
        if (apart := heavy_atom_rmsd(published, molecule)) > SAME_BASIN:
            return {"smiles": published.smiles, "reason": f"{name}: {apart:.2f} Å away"}
    return {
        "smiles": published.smiles,
        "paths": {
            name: {optimizer: follow(start, optimizer) for optimizer in OPTIMIZERS}
            for name, start in starts.items()
        },
    }


def relaxed(molecule: Molecule, level: str) -> Molecule:
    """Relax a molecule tightly at a cheap level."""
    positions = relax_at_level(molecule, level, fmax=FMAX, max_steps=10 * STEPS).positions
    return molecule.with_positions(positions, start=level)


def displaced(minimum: Molecule, published: Molecule, end: Molecule) -> Molecule:
    """Displace a minimum by the difference of an end from the published minimum."""
    target, origin = (m.positions - m.positions.mean(axis=0) for m in (minimum, published))
    moved, _ = superpose(end.positions, origin)
    turn, _ = Rotation.align_vectors(target, origin)
    return minimum.with_positions(target + turn.apply(moved - origin), start="model")


def follow(start: Molecule, optimizer: str) -> Path_:
    """Relax from a start, and return what stopping rules look at after each call, eV and Å."""
    recorder = Recorder(start, get_calculator("gfn2-xtb", start), (), lambda call: None)
    atoms = start.to_atoms()
    hessian = AIMNet2(start).hessian(atoms)
    atoms.calc = recorder
    find_optimizer(optimizer)(atoms, logfile=None, hessian=hessian).run(FMAX, STEPS)
    calls = recorder.calls
    return path_of(
        [call.energy for call in calls],
        [call.fmax for call in calls],
        [np.sqrt((call.internal_forces**2).sum(axis=1).mean()) for call in calls],
        [call.molecule.positions for call in calls],
    )


def path_of(
    energies: Sequence[float],
    gmax: Sequence[float],
    grms: Sequence[float],
    geometries: Sequence[np.ndarray],
) -> Path_:
    """Return energies, forces and displacements along a relaxation; those of the first are None."""
    flat = [positions.ravel() / Bohr for positions in geometries]
    moves = [(None, None), *(calc_drms_dmax(x, before) for before, x in pairwise(flat))]
    drms, dmax = zip(*moves, strict=True)
    found = {"energies": energies, "gmax": gmax, "grms": grms, "drms": drms, "dmax": dmax}
    return {name: list(values) for name, values in found.items()}


def criteria(path: Path_) -> dict[str, list[bool]]:
    """Tell which of geomeTRIC's criteria each call meets; the first one has not moved yet."""
    known = {"energy": [None, *np.abs(np.diff(path["energies"]))]} | path
    limits = {name: GEOMETRIC_THRESHOLDS[name] * unit for name, unit in UNITS.items()}
    return {n: (np.array(known[n], dtype=float) < limit).tolist() for n, limit in limits.items()}


def calls_to(path: Path_) -> dict[str, int | None]:
    """Count the calls to each stopping rule, and to each set of geomeTRIC's criteria."""
    met = criteria(path)
    rules = {
        f"{fmax:g} eV/Å": [force < fmax for force in path["gmax"]] for fmax in LARGEST_FORCES
    } | {
        "geomeTRIC": [all(each) for each in zip(*met.values(), strict=True)],
        "its energy and gradient": [
            all(each) for each in zip(*(met[k] for k in ("energy", "grms", "gmax")), strict=True)
        ],
    }
    return {rule: first(values) for rule, values in rules.items()}


def first(met: Sequence[bool]) -> int | None:
    """Return the number of the first call that meets a rule; None if there is none."""
    return met.index(True) + 1 if True in met else None


def tables(records: Sequence[dict[str, Any]]) -> str:
    """Show the mean calls to each stopping rule, and how far up the starts are."""
    rows = []
    for start in records[0]["paths"]:
        for optimizer in OPTIMIZERS:
            paths = [record["paths"][start][optimizer] for record in records]
            counts = [calls_to(path) for path in paths]
            above = [path["energies"][0] - min(path["energies"]) for path in paths]
            means = [shown_mean([count[rule] for count in counts]) for rule in counts[0]]
            rows.append((start, optimizer, f"{np.median(above) / KCAL_PER_MOL:.3f}", *means))
    header = ("start", "optimizer", "above its minimum, kcal/mol, median", *counts[0])
    return markdown_table(header, rows)


def shown_mean(counts: Sequence[int | None]) -> str:
    """Show the mean of those that are known, and how many are not."""
    known = [count for count in counts if count is not None]
    missing = f" ({len(counts) - len(known)} never)" if len(known) < len(counts) else ""
    return f"{np.mean(known):.2f}{missing}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
