"""What jumps between wells save in samples at a temperature, on molecules of the validation split.

Run: python analysis/jumps.py analysis/results/boltzmann/jumps.json
Each way of each molecule is measured once: a run that was interrupted goes on with the next. The
search for conformers is not counted; their second derivatives are, as 6 energies for each atom.
"""

import json
import sys
from pathlib import Path
from typing import Any

from boltzmann import CHAINS, PEERS, SEED, TEMPERATURE, WANTED, hardware, peer_cost
from records import how_made, store

from diffrelax import load_model, sample_boltzmann, sample_conformers
from diffrelax.models.release import Model
from diffrelax.molecule import Molecule

MODEL = "relax-qm9-2"
MOLECULES = ("CC(CO)CO", "CC(C)(C)C(CO)CO")  # the second one is crowded
N = 1000
TORSIONS = "cartesian, torsion jumps"
WAYS = (TORSIONS, "sample", "sample, with jumps")


def main(path: Path) -> None:
    """Measure what the file does not hold yet."""
    model = load_model(MODEL)
    found = json.loads(path.read_text(encoding="utf-8"))["molecules"] if path.exists() else {}
    for smiles in MOLECULES:
        ways = found.setdefault(smiles, {})
        for way in WAYS:
            if way not in ways:
                ways[way] = cost_of(way, smiles, model)
                store(path, record(found))


def record(found: dict[str, Any]) -> dict[str, Any]:
    """Describe how the costs were measured."""
    return how_made(hardware=hardware()) | {
        "split": "validation",
        "level": "mmff94",
        "temperature": TEMPERATURE,
        "samples": N,
        "chains": CHAINS,
        "effective_samples_wanted": WANTED,
        "molecules": found,
    }


def cost_of(way: str, smiles: str, model: Model) -> dict[str, Any]:
    """Sample in one way, and tell what the slowest observable's effective samples cost."""
    if way in PEERS:
        return peer_cost(way, Molecule.from_smiles(smiles))
    conformers = None
    if way != "sample":
        conformers = sample_conformers(smiles, model, level="mmff94", temperature=TEMPERATURE)
    found = sample_boltzmann(
        smiles, N, temperature=TEMPERATURE, conformers=conformers, n_chains=CHAINS, seed=SEED
    )
    known: dict[str, Any] = found.provenance.diagnostics
    shapes = 6 * found.molecule.n_atoms * len(conformers) if conformers else 0
    tuning = known["tuning"]["energy_calls"] + shapes
    lowest = min(known["ess"].values())
    drawing = known["energy_calls"] - known["tuning"]["energy_calls"]
    return {
        "conformers": len(conformers) if conformers else None,
        "wells": found.provenance.settings["wells"],
        "lowest_ess": lowest,
        "highest_rhat": max(known["rhat"].values()),
        "doubts": known["doubts"],
        "acceptance": known["acceptance"],
        "tuning": {"energy_calls": tuning},
        "spent": {"energy_calls": drawing},
        "for_wanted": {
            "energy_calls": tuning + drawing * WANTED / lowest,
            "processor_seconds": known["tuning"]["processor_seconds"]
            + (known["processor_seconds"] - known["tuning"]["processor_seconds"]) * WANTED / lowest,
        },
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
