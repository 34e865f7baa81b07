"""Choice among resonance structures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import pairwise

import numpy as np
from rdkit import Chem

from diffrelax.molecule.connectivity import constitution

CHARGED_NITROGEN = {  # to the usual forms of sulfonamides, diazo compounds, azides and thiazolium
    "[O-;D1]-[#16;D4]=[#7;+0;D2]": (1, -1),
    "[#6-]-[N+]#[N;D1;+0]": (1, -1),
    "[#8-]-[#6]=[#6]-[N+]#[N;D1;+0]": (1, -1, 1, -1),
    "[#7-;D2]-[N+]#[N;D1;+0]": (1, -1),
    "[O-]-[#15]=[#7]-[N+]#[N;D1;+0]": (1, -1, 1, -1),
    "[#16+;D2]=[#6]-[#7;D3;+0]": (-1, 1),
}
SELDOM_DRAWN = [  # another resonance structure is usual
    Chem.MolFromSmarts(smarts)
    for smarts in (
        "[#7]-[#7+]#[#7;D1]",  # azides
        "[#8-]-[#6]=[#6]-[#7+]#[#7;D1]",  # diazo ketones
        "[#16+;D2]=,:[#6]-,:[#7]",  # thiazolium
        "[O-]-[#6]=[#7]-[#16](=O)=O",  # anions of N-acylsulfonamides
    )
]
MOST_STRUCTURES = 200
ELECTRONEGATIVITY = {  # Pauling scale
    5: 2.04, 6: 2.55, 7: 3.04, 8: 3.44, 9: 3.98, 14: 1.90, 15: 2.19, 16: 2.58, 17: 3.16, 34: 2.55,
    35: 2.96, 53: 2.66,
}  # fmt: skip


def in_one_form(mol: Chem.Mol) -> Chem.Mol:
    """Choose one resonance structure, independent of the order of atoms.

    It has the fewest charges, the fewest `SELDOM_DRAWN` patterns, and negative charges on
    electronegative atoms; then the most aromatic bonds; then the first SMILES in order.
    """
    if not any(atom.GetFormalCharge() for atom in mol.GetAtoms()):
        return mol
    read = Chem.RWMol(mol)
    push_electrons(read, CHARGED_NITROGEN)
    Chem.SanitizeMol(read)
    structures = [read]
    for structure in filter(None, Chem.ResonanceMolSupplier(read, maxStructs=MOST_STRUCTURES)):
        with suppress(ValueError):  # some cannot be written with single and double bonds
            Chem.SanitizeMol(structure)
            structures.append(structure)
    return min(structures, key=rank_form)


def rank_form(structure: Chem.Mol) -> tuple[int, int, float, int, str, str]:
    """Return the sort key of a structure, see `in_one_form`."""
    charges = [atom.GetFormalCharge() for atom in structure.GetAtoms()]
    polarity = sum(
        charge * ELECTRONEGATIVITY.get(atom.GetAtomicNum(), 2.0)
        for atom, charge in zip(structure.GetAtoms(), charges, strict=True)
    )
    aromatic = sum(bond.GetIsAromatic() for bond in structure.GetBonds())
    read = Chem.Mol(structure)
    Chem.AssignStereochemistryFrom3D(read)
    smiles = constitution(read), Chem.MolToSmiles(Chem.RemoveHs(read, sanitize=False))
    seldom = sum(len(structure.GetSubstructMatches(pattern)) for pattern in SELDOM_DRAWN)
    return sum(charge**2 for charge in charges), seldom, round(polarity, 2), -aromatic, *smiles


def by_lengths(mol: Chem.Mol, known: str = "") -> Chem.Mol:
    """Draw short bonds as double bonds if there is a choice, as in cyclobutadienes.

    A known constitution is kept; aromatic rings are not changed.
    """
    read = Chem.Mol(mol)
    Chem.SanitizeMol(read)
    rings = ([read.GetBondWithIdx(i) for i in r] for r in read.GetRingInfo().BondRings())
    if not any(
        sum(bond.GetBondType() == Chem.BondType.DOUBLE for bond in ring) > 1
        and all(bond.GetIsConjugated() for bond in ring)
        for ring in rings
    ):
        return mol
    ends = np.array([(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in mol.GetBonds()])
    first, last = mol.GetConformer().GetPositions()[ends.T]
    lengths = np.linalg.norm(first - last, axis=1)

    def total(structure: Chem.Mol) -> float:
        orders = [b.GetBondTypeAsDouble() for b in structure.GetBonds()]
        return float(lengths @ orders)

    structures = list(filter(None, Chem.ResonanceMolSupplier(read, Chem.KEKULE_ALL)))
    for structure in structures:
        Chem.SanitizeMol(structure)
    alike = (s for s in structures if not known or constitution(s) == known)
    return min(alike, key=total, default=mol)


def push_electrons(mol: Chem.RWMol, patterns: Mapping[str, Sequence[int]]) -> None:
    """Shift bond orders along patterns; the last atom takes the charge of the first."""
    Chem.Kekulize(mol, clearAromaticFlags=True)
    for smarts, steps in patterns.items():
        pattern = Chem.MolFromSmarts(smarts)
        while match := mol.GetSubstructMatch(pattern):
            for ends, step in zip(pairwise(match), steps, strict=True):
                bond = mol.GetBondBetweenAtoms(*ends)
                order = int(bond.GetBondTypeAsDouble()) + step
                bond.SetBondType(Chem.BondType.values[order])
            first, last = (mol.GetAtomWithIdx(match[i]) for i in (0, -1))
            last.SetFormalCharge(last.GetFormalCharge() + first.GetFormalCharge())
            first.SetFormalCharge(0)
