"""Connectivity without bond orders."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from ase.data import covalent_radii
from rdkit import Chem, rdBase
from rdkit.Chem.inchi import MolToInchiKey
from scipy.spatial import cKDTree

BOND_TOLERANCE = 0.25  # Å beyond the covalent radii; QM9 has N–O bonds at 0.26, C…C gaps at 0.25


def near_pairs(
    numbers: np.ndarray, positions: np.ndarray, tolerance: float = BOND_TOLERANCE
) -> np.ndarray:
    """Find the pairs of atoms that are close enough to be bonded.

    Parameters
    ----------
    numbers : (n_atoms,) array of int
    positions : (n_atoms, 3) array, Å
    tolerance : float, Å
        Beyond the covalent radii (Cordero et al. 2008, doi 10.1039/b801115j).

    Returns
    -------
    (n_pairs, 2) array of int, sorted, the smaller index first
        Empty if positions are not finite.
    """
    if not np.isfinite(positions).all():
        return np.empty((0, 2), dtype=int)
    radii = covalent_radii[numbers]
    reach = 2 * radii.max() + tolerance
    pairs = cKDTree(positions).query_pairs(reach, output_type="ndarray")
    i, j = pairs[np.lexsort(pairs.T[::-1])].T
    distances = np.linalg.norm(positions[i] - positions[j], axis=-1)
    return np.column_stack([i, j])[distances < radii[i] + radii[j] + tolerance]


def skeleton(
    numbers: Iterable[int], pairs: Iterable[Iterable[int]], positions: np.ndarray | None = None
) -> Chem.RWMol:
    """Build an RDKit molecule with single bonds between the pairs, without implicit hydrogens."""
    mol = Chem.RWMol()
    for number in numbers:
        atom = Chem.Atom(int(number))
        atom.SetNoImplicit(True)
        mol.AddAtom(atom)
    for i, j in pairs:
        mol.AddBond(int(i), int(j), Chem.BondType.SINGLE)
    if positions is not None:
        conformer = Chem.Conformer(len(positions))
        conformer.SetPositions(np.array(positions))
        mol.AddConformer(conformer)
    return mol


def flag_aromatic(mol: Chem.Mol) -> None:
    """Set the aromatic flags of bonds and atoms, as RDKit requires before sanitizing."""
    for bond in mol.GetBonds():
        if bond.GetBondType() == Chem.BondType.AROMATIC:
            for part in (bond, bond.GetBeginAtom(), bond.GetEndAtom()):
                part.SetIsAromatic(True)


def constitution(mol: Chem.Mol) -> str:
    """Return the canonical SMILES of a molecule without its stereochemistry."""
    return Chem.MolToSmiles(Chem.RemoveHs(mol, sanitize=False), isomericSmiles=False)


def constitution_key(smiles: str) -> str:
    """Return the first 14 letters of the InChIKey, a hash of the constitution.

    Tautomers with the same InChI share the key. Empty if the SMILES is invalid.
    """
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles)
        return str(MolToInchiKey(mol))[:14] if mol else ""
