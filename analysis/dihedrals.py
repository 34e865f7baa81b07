"""Dihedral angles of flexible molecules of the test split: samples beside reference chains.

Run: python analysis/dihedrals.py analysis/results/boltzmann/dihedrals.json
A run that was interrupted goes on with the next molecule. Needs the package qm9pack.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from boltzmann import TEMPERATURE, heavy_torsions, reference_chains
from rdkit import Chem
from records import how_made, store

from diffrelax.data.qm9 import load_qm9
from diffrelax.models.release import Model, load_model
from diffrelax.molecule import Molecule
from diffrelax.molecule.torsions import torsion_angles
from diffrelax.sampling.boltzmann import sample_boltzmann

MODEL = Path(__file__).parents[1] / "models" / "relax-qm9-1"
MOLECULES = 8
LARGEST = 8  # heavy atoms
N = 1000
SEED = 42
REFERENCE_STEPS = 150_000  # of each of four chains
EDGES = np.linspace(-180, 180, 37)


def main(path: Path) -> None:
    """Sample the molecules that the file does not hold yet."""
    torch.set_num_threads(1)
    model = load_model(MODEL)
    found = json.loads(path.read_text(encoding="utf-8"))["molecules"] if path.exists() else []
    done = {one["smiles"] for one in found}
    for smiles in [smiles for smiles in choose() if smiles not in done]:
        found.append(measure(smiles, model))
        record = how_made(model, shared=True) | {
            "split": "test",
            "n": len(found),
            "level": "mmff94",
            "temperature": TEMPERATURE,
            "samples": N,
            "reference_steps": 4 * REFERENCE_STEPS,
            "degrees": EDGES.tolist(),
            "molecules": found,
        }
        store(path, record)


def choose() -> list[str]:
    """Draw acyclic molecules with single bonds only, and a torsion of heavy atoms."""
    smiles, drawn = load_qm9("test").smiles, []
    for i in np.random.default_rng(0).permutation(len(smiles)):
        mol = Chem.MolFromSmiles(smiles[i].decode())
        single = all(bond.GetBondType() == Chem.BondType.SINGLE for bond in mol.GetBonds())
        torsion = mol.HasSubstructMatch(Chem.MolFromSmarts("*~*-*~*"))
        flexible = single and torsion and not mol.GetRingInfo().NumRings()
        if flexible and mol.GetNumHeavyAtoms() <= LARGEST:
            drawn.append(smiles[i].decode())
        if len(drawn) == MOLECULES:
            break
    return drawn


def measure(smiles: str, model: Model) -> dict[str, object]:
    """Count angles in the samples of both methods and in the reference chains."""
    molecule = Molecule.from_smiles(smiles)
    quads = heavy_torsions(molecule)
    angles, told = {}, {}
    for method in ("adjusted", "repeat"):
        ensemble = sample_boltzmann(
            molecule, model, N, temperature=TEMPERATURE, method=method, seed=SEED
        )
        angles[method] = torsion_angles(ensemble.positions, quads)
        known = ensemble.provenance.diagnostics
        told[method] = {name: known[name] for name in ("converged", "doubts", "energy_calls")}
    reference, _ = reference_chains(smiles, quads, REFERENCE_STEPS)
    angles["reference"] = reference.reshape(len(quads), -1)
    return {
        "smiles": smiles,
        "torsions": [
            {
                "atoms": "–".join(map(molecule.label, quad)),
                "density": {
                    method: np.round(
                        np.histogram(np.degrees(one[t]), EDGES, density=True)[0], 6
                    ).tolist()
                    for method, one in angles.items()
                },
            }
            for t, quad in enumerate(quads)
        ],
        "told": told,
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
