"""How hot is repeated denoising? Fit T = c σ² on energies of training molecules.

Run: python analysis/calibration.py analysis/results/relax-qm9-1/temperature.json
A run that was interrupted goes on with the next molecule. Needs the package qm9pack.
"""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from records import how_made, store

from diffrelax.data.qm9 import load_qm9
from diffrelax.dft.hessian import count_vibrations
from diffrelax.levels import Surface
from diffrelax.models.domain import outside_domain
from diffrelax.models.release import Model, load_model
from diffrelax.molecule import Molecule
from diffrelax.sampling.boltzmann.chains import Chains
from diffrelax.sampling.boltzmann.guide import Guide
from diffrelax.sampling.boltzmann.repeated import (
    PILOT_DRAWS,
    PILOT_SIGMAS,
    RATIO,
    THIN,
    TemperatureFit,
    repeat,
    temperatures_of_kinds,
)
from diffrelax.sampling.boltzmann.sampling import embed_starts

MODEL = Path(__file__).parents[1] / "models" / "relax-qm9-1"
N = 12
CHAINS = 10
SEED = 0


def main(path: Path) -> None:
    """Calibrate the molecules that the file does not hold yet, and tell the median."""
    torch.set_num_threads(1)
    model = load_model(MODEL)
    found = json.loads(path.read_text(encoding="utf-8"))["molecules"] if path.exists() else []
    for smiles in choose(model)[len(found) :]:
        found.append(calibrate(smiles, model))
        store(path, record(model, found))


def record(model: Model, found: list[dict[str, object]]) -> dict[str, object]:
    """Sum up what has been found."""
    constants = [one["calibration"]["c"] for one in found]
    return how_made(model, shared=True) | {
        "split": "train",
        "n": len(found),
        "level": "mmff94",
        "ratio": RATIO,
        "sigmas": PILOT_SIGMAS,
        "chains": CHAINS,
        "draws": PILOT_DRAWS,
        "thin": THIN,
        "seed": SEED,
        "c": float(np.median(constants)),
        "c_range": [min(constants), max(constants)],
        "molecules": found,
    }


def choose(model: Model) -> list[str]:
    """Draw training molecules that the model and MMFF94 cover."""
    smiles = load_qm9("train").smiles
    drawn = []
    for i in np.random.default_rng(SEED).permutation(len(smiles)):
        text = smiles[i].decode()
        molecule = Molecule.from_smiles(text)
        if molecule.start == "mmff94" and not outside_domain(molecule, model):
            drawn.append(text)
        if len(drawn) == N:
            break
    return drawn


def calibrate(smiles: str, model: Model) -> dict[str, object]:
    """Repeat the denoising of one molecule at each noise level, from minima of MMFF94."""
    begun = time.process_time()
    molecule = Molecule.from_smiles(smiles)
    surface, rng = Surface(molecule, "mmff94"), np.random.default_rng(SEED)
    starts = embed_starts(molecule, CHAINS, SEED)
    chains = Chains.start(starts, surface.energies)
    paths = {
        sigma: repeat(
            chains, Guide(model, molecule, sigma), sigma, surface.energies, PILOT_DRAWS, THIN, rng
        )
        for sigma in PILOT_SIGMAS
    }
    energies = [path.energies[1:] for path in paths.values()]
    fit = TemperatureFit.fit(
        PILOT_SIGMAS, [e.mean() for e in energies], count_vibrations(starts[0])
    )
    return {
        "smiles": smiles,
        "n_atoms": molecule.n_atoms,
        "calibration": asdict(fit),
        "temperatures": {
            str(sigma): {"energy": fit.c * sigma**2}
            | temperatures_of_kinds(molecule, starts, path.positions[1:])
            for sigma, path in paths.items()
        },
        "energies": {
            str(sigma): np.round(one, 4).ravel().tolist()
            for sigma, one in zip(paths, energies, strict=True)
        },
        "processor_seconds": time.process_time() - begun,
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
