"""The environments of atoms in the training molecules of QM9, which its models have learned from.

Run: python analysis/environments.py models/qm9-environments.txt
"""

import sys
from pathlib import Path

from diffrelax.data.qm9 import load_qm9
from diffrelax.molecule.environments import count_environments, write_environments

if __name__ == "__main__":
    smiles = [text.decode() for text in load_qm9("train").smiles]
    write_environments(count_environments(smiles), Path(sys.argv[1]))
