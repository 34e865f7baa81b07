"""How far coordinates of unknown origin should be relaxed: energies after more and less of it.

Run: OMP_NUM_THREADS=1 python analysis/given.py MODEL VALIDATION.npz OUTPUT.json

Validation molecules of 12 to 30 heavy atoms, neutral, as someone may bring them: at the minimum of
AIMNet2's level, which the model aims at, at that of GFN2-xTB, at a minimum of M06-2X, as an
embedding without a force field, and at the first with hydrogen atoms too near, as X-rays have them.
From each, the model goes one step at its last noise level, down its polish, along its whole
schedule, or as it chooses itself by its reading. The excess energy is AIMNet2's, above the minimum
to which it relaxes that end.
"""

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import ase
import numpy as np
from rdkit.Chem import rdDistGeom
from records import how_made, store
from tqdm import tqdm

from diffrelax.diffusion.schedule import RelaxationSchedule
from diffrelax.levels import relax_at_level
from diffrelax.levels.aimnet2 import evaluate
from diffrelax.levels.batch import relax_many
from diffrelax.levels.distances import AIMNET2
from diffrelax.models.batches import relax_batch
from diffrelax.models.release import Model, load_model
from diffrelax.models.starts import choose_routes
from diffrelax.molecule import Molecule
from diffrelax.training.geometries import GeometrySet
from diffrelax.units import KCAL_PER_MOL

AIM = AIMNET2
OTHER = "M06-2X/def2-TZVP"
SIZES = 12, 30  # heavy atoms
N = 48
XRAY = 0.88  # times its length, a bond of hydrogen
SEED = 0


def main(name: str, packed: Path, output: Path) -> None:
    """Relax, measure and write."""
    model, geometries = load_model(name), GeometrySet.load(packed)
    schedule = model.config.relaxation
    ways = {
        "last step": RelaxationSchedule(bridge=(), polish=schedule.polish[-1:]),
        "polish": RelaxationSchedule(bridge=(), polish=schedule.polish),
        "schedule": schedule,
    }
    starts = {
        AIM: list(minima(geometries, AIM)),
        "GFN2-xTB": list(by_gfn2(minima(geometries, AIM))),
        OTHER: list(minima(geometries, OTHER)),
        "ETKDGv3": list(by_etkdg(minima(geometries, AIM))),
        f"{AIM}, X–H times {XRAY}": list(by_xrays(minima(geometries, AIM))),
    }
    found = {start: measured(model, molecules, ways, start) for start, molecules in starts.items()}
    made = how_made(model, shared=True, split="validation", seed=SEED, aim=AIM)
    store(output, made | {"units": "kcal/mol", "starts": found})


def minima(geometries: GeometrySet, level: str) -> Iterator[Molecule]:
    """Take neutral minima of a level at random, those that are read as molecules."""
    chosen = geometries.level == geometries.levels.index(level)
    chosen &= (geometries.charge == 0) & (geometries.heavy_sizes >= SIZES[0])
    chosen &= geometries.heavy_sizes <= SIZES[1]
    for place in np.random.default_rng(SEED).permutation(np.flatnonzero(chosen))[:N]:
        rows = geometries.atoms(place)
        try:
            yield Molecule.from_atoms(
                ase.Atoms(geometries.numbers[rows], geometries.positions[rows])
            )
        except ValueError:
            continue


def by_gfn2(molecules: Iterator[Molecule]) -> Iterator[Molecule]:
    """Relax molecules with GFN2-xTB; leave out those that do not converge."""
    for molecule in molecules:
        relaxed = relax_at_level(molecule, "gfn2-xtb", fmax=0.03)
        if relaxed.converged:
            yield molecule.with_positions(relaxed.positions)


def by_etkdg(molecules: Iterator[Molecule]) -> Iterator[Molecule]:
    """Embed molecules; leave out those for which that fails."""
    for molecule in molecules:
        mol = molecule.to_rdkit()
        parameters = rdDistGeom.ETKDGv3()
        parameters.randomSeed = SEED
        if rdDistGeom.EmbedMolecule(mol, parameters) == 0:
            yield molecule.with_positions(mol.GetConformer().GetPositions())


def by_xrays(molecules: Iterator[Molecule]) -> Iterator[Molecule]:
    """Move hydrogen atoms towards what they are bonded to."""
    for molecule in molecules:
        positions = molecule.positions.copy()
        for bond in molecule.bonds:
            hydrogen, heavy = sorted(bond[:2], key=lambda atom: molecule.numbers[atom])
            if molecule.numbers[hydrogen] == 1:
                positions[hydrogen] = np.average(
                    molecule.positions[[hydrogen, heavy]], axis=0, weights=(XRAY, 1 - XRAY)
                )
        yield molecule.with_positions(positions)


def measured(
    model: Model, molecules: list[Molecule], ways: dict[str, RelaxationSchedule], start: str
) -> dict[str, object]:
    """Return the median and quartiles of the excess energy after each way.

    An end that is no molecule, or that AIMNet2 relaxes to no minimum, counts as high.
    """
    excess: dict[str, list[float]] = {way: [] for way in ("as given", *ways, "by reading")}
    first = []
    unread = [(schedule, None) for schedule in ways.values()]
    by_reading = (model.config.relaxation, model.config.calibrations[AIM])
    for molecule in tqdm(molecules, start, unit="mol"):
        ends = {"as given": molecule}
        for way, (schedule, calibration) in zip(
            (*ways, "by reading"), (*unread, by_reading), strict=True
        ):
            routes = choose_routes(model, AIM, schedule, calibration)
            [end] = relax_batch([molecule], model, AIM, routes, calibration)
            with suppress(ValueError):  # two atoms in one place
                ends[way] = molecule.with_positions(end.positions)
        first.append(end.noise_level)
        relaxed = relax_many([*ends.values()], "aimnet2", fmax=0.01)
        energies, _ = evaluate([*ends.values()], [one.positions for one in ends.values()])
        found = {
            way: (energy - one.energy) / KCAL_PER_MOL
            for way, energy, one in zip(ends, energies, relaxed, strict=True)
            if one.converged
        }
        for way, of_way in excess.items():
            of_way.append(found.get(way, np.inf))
    levels, counts = np.unique(first, return_counts=True)
    return {
        "molecules": len(excess["as given"]),
        "first_level_by_reading": dict(zip(map(str, levels), counts.tolist(), strict=True)),
        "excess": {
            way: dict(zip(("25%", "median", "75%"), quartiles(values), strict=True))
            for way, values in excess.items()
        },
    }


def quartiles(values: list[float]) -> list[float | None]:
    """Return quartiles; None where they lie among what came to no minimum."""
    with np.errstate(invalid="ignore"):
        found = np.quantile(values, (0.25, 0.5, 0.75)).round(3).tolist()
    return [value if np.isfinite(value) else None for value in found]


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
