"""Tell a model's errors by size and by functional group, from what ``diffrelax evaluate`` stored.

Run: python analysis/error_groups.py analysis/results/relax-qm9-2/geometry.json
Needs the package qm9pack. The molecules with the largest errors are drawn beside the stored result.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rdkit import Chem
from rdkit.Chem import Draw

from diffrelax.data.qm9 import load_qm9
from diffrelax.results.tables import markdown_table

GROUPS = {
    "alkane": "[CX4]-[CX4]",
    "alkene": "C=C",
    "alkyne": "C#C",
    "aromatic ring": "a",
    "three-membered ring": "[r3]",
    "four-membered ring": "[r4]",
    "alcohol": "[OX2H][CX4]",
    "ether": "[OD2]([CX4])[CX4]",
    "aldehyde": "[CX3H1](=O)[#6]",
    "ketone": "[#6][CX3](=O)[#6]",
    "ester": "[CX3](=O)[OX2][#6]",
    "amide": "[CX3](=O)[NX3]",
    "amine": "[NX3;!$(N-C=[O,N]);!$(N-[!#6;!#1])]-[CX4]",
    "imine, amidine": "[CX3]=[NX2]",
    "nitrile": "C#N",
    "N–N or N–O bond": "[#7]~[#7,#8]",
    "fluorine": "F",
}
SIZES = ((1, 6), (7, 7), (8, 8), (9, 9))  # heavy atoms, inclusive
FEWEST = 10
HEADER = ("", "molecules", "aligned RMSD, Å", "90th percentile", "bonds, mÅ", "1–3 distances, mÅ")
N_WORST, IN_ROW = 12, 6


def main(path: Path) -> None:
    """Print a table in markdown, medians over the molecules of each kind, and draw the worst."""
    result = json.loads(path.read_text(encoding="utf-8"))
    geometries = load_qm9(result["split"])
    smiles = dict(zip(geometries.index.tolist(), geometries.smiles, strict=True))
    molecules = [Chem.MolFromSmiles(smiles[i].decode()) for i in result["qm9_indices"]]
    errors = result["errors"][result["model"]]
    rmsd, bonds, angles = (np.array(errors[quantity]) for quantity in ("rmsd", "bonds", "angles"))
    rows = [
        (
            name,
            str(of_kind.sum()),
            *(f"{np.quantile(rmsd[of_kind], part):.3f}" for part in (0.5, 0.9)),
            *(f"{1e3 * np.median(error[of_kind]):.1f}" for error in (bonds, angles)),
        )
        for name, of_kind in kinds(molecules)
        if of_kind.sum() >= FEWEST
    ]
    print(markdown_table(HEADER, rows))
    start = result["errors"][result["start"]]["rmsd"]
    worst = np.argsort(rmsd)[::-1][:N_WORST]
    Draw.MolsToGridImage(
        [molecules[i] for i in worst],
        molsPerRow=IN_ROW,
        subImgSize=(180, 160),
        legends=[f"{rmsd[i]:.2f} angstrom, start {start[i]:.2f}" for i in worst],
        returnPNG=False,
    ).save(path.with_name(f"{path.stem}-worst.png"))


def kinds(molecules: list[Chem.Mol]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield kinds of molecules and which they are; a molecule may be of several."""
    heavy = np.array([mol.GetNumHeavyAtoms() for mol in molecules])
    for low, high in SIZES:
        name = f"{high} heavy atoms" if low == high else f"at most {high} heavy atoms"
        yield name, (low <= heavy) & (heavy <= high)
    for name, smarts in GROUPS.items():
        pattern = Chem.MolFromSmarts(smarts)
        yield name, np.array([mol.HasSubstructMatch(pattern) for mol in molecules])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
