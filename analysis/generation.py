"""Generate molecules, judge them, and follow the phases of their generation.

Run: python analysis/generation.py generate-qm9-1 analysis/results/generate-qm9-1

A file of weights may take the place of the model's name. What has been measured is kept: the same
command goes on where it was stopped.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import ase
import numpy as np
from paper.phases import RelaxationPhase, relaxation_phase
from paper.quality import constitutions, generation_quality
from posebusters import PoseBusters
from records import how_made, store
from tqdm import tqdm

from diffrelax.data.qm9 import load_qm9
from diffrelax.generation import Generated, generate, judge
from diffrelax.levels import get_calculator, relax_at_level
from diffrelax.models.release import Model, load_model
from diffrelax.training.geometries import GeometrySet

SEED = 0
RELAXER = "relax-qm9-2"
N_REAL = 200
N_BUSTED = 300  # PoseBusters takes a second for each
N_FLOOR = 100
PUBLISHED = {
    "EDM (Hoogeboom et al. 2022, arXiv 2203.17003)": {
        "stable_atoms": 0.987,
        "stable_molecules": 0.820,
        "valid_by_rdkit": 0.919,
        "valid_and_unique_by_rdkit": 0.907,
    },
    "GeoLDM (Xu et al. 2023, arXiv 2305.01140)": {
        "stable_atoms": 0.989,
        "stable_molecules": 0.894,
        "valid_by_rdkit": 0.938,
        "valid_and_unique_by_rdkit": 0.927,
    },
}


def main() -> None:
    """Write quality.json, phases.json and floor.json into the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("-n", type=int, default=1000, help="molecules to generate and judge")
    parser.add_argument("--phases", type=int, default=100, help="to generate and follow")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    model = load_model(options.model)
    about = {
        "model": model.name,
        "sha256": model.sha256,
        "step": model.step,
        "last_step": model.config.training.steps,
        "seed": SEED,
    }
    for name, n, measure in (
        ("quality", options.n, quality),
        ("phases", options.phases, phases),
    ):
        path = options.folder / f"{name}.json"
        subject = about | {"n": n}
        if path.is_file() and subject.items() <= json.loads(path.read_text()).items():
            continue
        store(path, how_made() | subject | measure(model, n))
    if not (path := options.folder / "floor.json").is_file():
        store(path, how_made() | floor())


def quality(model: Model, n: int) -> dict[str, object]:
    """Judge generated molecules, and real ones of the test split by the same measures."""
    known = constitutions(load_qm9("train"))
    real = real_molecules(load_qm9("test"), min(n, N_REAL))
    return {
        "generated": {name: judged(made, known) for name, made in ways(model, n)},
        "test_split": asdict(generation_quality(real, known)) | {"posebusters": busted(real)},
        "published": PUBLISHED,
    }


def ways(model: Model, n: int) -> Iterator[tuple[str, tuple[list[Generated], float]]]:
    """Generate by the model alone, and in the default way; with seconds of the processor."""
    for name, relaxer, free in (
        ("model alone", None, True),
        ("valences and relaxer", load_model(RELAXER), False),
    ):
        begun = time.process_time()
        made = generate(model, relaxer, n, seed=SEED, free_elements=free, progress=True)
        yield name, (made, time.process_time() - begun)


def judged(timed: tuple[list[Generated], float], known: set[str]) -> dict[str, object]:
    """Judge what was made, and tell how long it took."""
    made, seconds = timed
    quality = asdict(generation_quality(made, known)) | {"posebusters": busted(made)}
    return quality | {"processor_seconds": round(seconds, 1)}


def real_molecules(geometries: GeometrySet, n: int) -> list[Generated]:
    """Take molecules of the test split as if they had been generated."""
    chosen = np.random.default_rng(0).permutation(len(geometries))[:n]
    return [
        judge(ase.Atoms(geometries.numbers[rows], geometries.positions[rows]))
        for rows in map(geometries.atoms, chosen)
    ]


def busted(made: list[Generated]) -> dict[str, float]:
    """Return the share of the first that passes PoseBusters, by check, and in all checks.

    ``all`` is the share among the molecules, ``all_of_generated`` that among all that was made.
    """
    made = made[:N_BUSTED]
    molecules = [one.molecule.to_rdkit() for one in made if one.molecule]
    checks = PoseBusters("mol").bust(molecules).astype(bool)
    passed = checks.all(axis=1)
    shares = checks.mean().to_dict() | {"all": passed.mean()}
    shares["all_of_generated"] = passed.sum() / len(made)
    return {check: round(float(share), 4) for check, share in shares.items()}


def phases(model: Model, n: int) -> dict[str, object]:
    """Follow the energies (GFN2-xTB) of generated molecules."""
    made = generate(model, None, n, seed=SEED, free_elements=True, trajectories=True, progress=True)
    found, failures = [], {}
    for one in tqdm([one for one in made if one.molecule], unit="mol"):
        smiles = one.atoms.info["smiles"]
        try:
            found.append({"smiles": smiles} | plain(relaxation_phase(one)))
        except ValueError as error:
            failures[smiles] = str(error)
    return {
        "level": "gfn2-xtb",
        "units": {"settled": "Å", "levels": "Å", "energies": "eV"},
        "phases": found,
        "failures": failures,
    }


def floor() -> dict[str, object]:
    """Measure how far above GFN2-xTB's minima those of DFT are, which models learn."""
    above, failures = [], {}
    for one in tqdm(real_molecules(load_qm9("test"), N_FLOOR), unit="mol"):
        if one.molecule is None:
            continue
        relaxed = relax_at_level(one.molecule, "gfn2-xtb", fmax=0.01)
        if relaxed.converged:
            atoms = one.molecule.to_atoms()
            atoms.calc = get_calculator("gfn2-xtb", one.molecule)
            above.append(round(atoms.get_potential_energy() - relaxed.energy, 5))
        else:
            failures[one.molecule.smiles] = relaxed.reason
    return {
        "level": "gfn2-xtb",
        "split": "test",
        "units": {"above": "eV"},
        "above": above,
        "failures": failures,
    }


def plain(phase: RelaxationPhase) -> dict[str, object]:
    """Return a phase in plain values, NaN as None."""
    rounded = {
        key: [None if np.isnan(v) else round(v, 5) for v in getattr(phase, key).tolist()]
        for key in ("levels", "energies", "line_energies")
    }
    return {"settled": round(phase.settled, 5)} | rounded


if __name__ == "__main__":
    main()
