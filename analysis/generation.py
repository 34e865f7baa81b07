"""Generate molecules, judge them, and follow the phases of their generation.

Run: python analysis/generation.py generate-qm9-1 analysis/results/generate-qm9-1
Needs the package posebusters.
"""

import json
import shlex
import sys
import time
from dataclasses import asdict
from pathlib import Path

import ase
import numpy as np
from posebusters import PoseBusters
from tqdm import tqdm

from diffrelax.atomic import replacing
from diffrelax.benchmark.generation import constitutions, generation_quality
from diffrelax.benchmark.hardware import describe_hardware
from diffrelax.generation import Generated, generate, judge
from diffrelax.models import Model, load_model
from diffrelax.phases import RelaxationPhase, relaxation_phase
from diffrelax.qm9 import load_qm9
from diffrelax.training.geometries import GeometrySet

N = 1000
N_PHASES = 60
SEED = 0
PUBLISHED = {  # EDM, Hoogeboom et al. 2022, arXiv 2203.17003, table 1
    "stable_atoms": 0.987,
    "stable_molecules": 0.820,
    "valid": 0.919,
    "valid_and_unique": 0.907,
}


def main(name: str, folder: Path) -> None:
    """Write quality.json and phases.json into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    model = load_model(name)
    known = constitutions(load_qm9("train"))
    about = {
        "command": shlex.join(["python", *sys.argv]),
        "model": model.name,
        "sha256": model.sha256,
        "step": model.step,
        "seed": SEED,
        "hardware": describe_hardware("cpu"),
    }
    store(folder / "quality.json", about | quality(model, known))
    store(folder / "phases.json", about | phases(model))


def quality(model: Model, known: set[str]) -> dict[str, object]:
    """Judge generated molecules, and real ones of the test split by the same measures."""
    begun = time.perf_counter()
    made = generate(model, N, seed=SEED, progress=True)
    seconds = time.perf_counter() - begun
    return {
        "seconds": seconds,
        "generated": asdict(generation_quality(made, known)) | {"posebusters": busted(made)},
        "test_split": asdict(generation_quality(real_molecules(load_qm9("test")), known)),
        "published_edm": PUBLISHED,
    }


def real_molecules(geometries: GeometrySet) -> list[Generated]:
    """Take molecules of the test split as if they had been generated."""
    chosen = np.random.default_rng(0).permutation(len(geometries))[:N]
    return [
        judge(ase.Atoms(geometries.numbers[rows], geometries.positions[rows]))
        for rows in map(geometries.atoms, chosen)
    ]


def busted(made: list[Generated]) -> dict[str, float]:
    """Return the share of all that was generated that passes PoseBusters, by check and in all."""
    molecules = [one.molecule.to_rdkit() for one in made if one.molecule]
    checks = PoseBusters("mol").bust(molecules)
    shares = checks.mean() * len(molecules) / len(made)
    return shares.to_dict() | {"all": float(checks.all(axis=1).sum() / len(made))}


def phases(model: Model) -> dict[str, object]:
    """Follow the energies (GFN2-xTB) of the first molecules that have been generated."""
    made = generate(model, 2 * N_PHASES, seed=SEED, trajectories=True, progress=True)
    molecules = [one for one in made if one.molecule][:N_PHASES]
    found = [relaxation_phase(one) for one in tqdm(molecules, unit="mol")]
    return {
        "level": "gfn2-xtb",
        "units": {"levels": "Å", "energies": "eV"},
        "smiles": [one.molecule.smiles for one in molecules if one.molecule],
        "phases": [plain(phase) for phase in found],
    }


def plain(phase: RelaxationPhase) -> dict[str, object]:
    """Return a phase in plain values, NaN as None."""
    rounded = {
        key: [None if np.isnan(v) else round(v, 6) for v in getattr(phase, key).tolist()]
        for key in ("levels", "energies", "line_energies")
    }
    return {"settled": phase.settled} | rounded


def store(path: Path, record: dict[str, object]) -> None:
    """Write a record, whole or not at all."""
    with replacing(path) as part:
        part.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
