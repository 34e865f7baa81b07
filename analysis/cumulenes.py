"""How long the model makes double bonds that share an atom, which QM9 does not have.

Run: OMP_NUM_THREADS=1 python analysis/cumulenes.py analysis/results/relax-qm9-2/cumulenes.json
"""

import sys
from pathlib import Path

import numpy as np
from dft_speedup import B3LYP, MODEL, SEED, about, about_model
from records import store

import diffrelax as dr
from diffrelax.benchmark.speedup.run import reference_settings

MOLECULES = {
    "allene": "C=C=C",
    "ketene": "C=C=O",
    "carbon dioxide": "O=C=O",
    "methyl isocyanate": "CN=C=O",
}


def main(output: Path) -> None:
    """Relax each molecule with the model, and from there with DFT, and compare the bonds."""
    model = dr.load_model(MODEL)
    rows = [compare(name, smiles, model) for name, smiles in MOLECULES.items()]
    store(output, about(reference_settings(B3LYP), "") | about_model(model) | {"molecules": rows})


def compare(name: str, smiles: str, model: dr.Model) -> dict[str, object]:
    """Return the lengths of the double bonds in Å, by the model and at the minimum."""
    relaxed = dr.relax(smiles, model, seed=SEED)
    settings = reference_settings(B3LYP).model_dump()
    minimum = dr.relax_dft(relaxed.molecule, **settings).molecule
    double = [[i, j] for i, j, order in minimum.bonds if order == 2]

    def lengths(molecule: dr.Molecule) -> list[float]:
        return [float(np.linalg.norm(np.subtract(*molecule.positions[bond]))) for bond in double]

    return {
        "name": name,
        "smiles": smiles,
        "by_the_model": lengths(relaxed.molecule),
        "by_dft": lengths(minimum),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
