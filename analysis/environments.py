"""The environments of atoms in training molecules, which models have learned from.

Run: python analysis/environments.py models/qm9-environments.txt
or, of packed sets in the place of QM9:
     python analysis/environments.py environments.txt train.npz ...
"""

import sys
from pathlib import Path

from diffrelax.data.qm9 import load_qm9
from diffrelax.molecule.environments import count_environments, write_environments
from diffrelax.training.geometries import GeometrySet

if __name__ == "__main__":
    packed = [GeometrySet.load(Path(path)) for path in sys.argv[2:]] or [load_qm9("train")]
    smiles = {text.decode() for one in packed for text in one.smiles.tolist()}
    write_environments(count_environments(smiles), Path(sys.argv[1]))
