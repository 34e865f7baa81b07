"""Distinguishing drawings from geometries, and missing parts of RDKit molecules."""

import numpy as np
from ase.data import covalent_radii
from rdkit import Chem

from diffrelax.molecule.checks import SHORTEST_BOND
from diffrelax.molecule.connectivity import near_pairs

CARBON = 6
# groups 2, 13 and 14
KEEP_S_PAIR = frozenset({4, 12, 20, 38, 56, 5, 13, 31, 49, 81, 6, 14, 32, 50, 82})
LONE_PAIRS = frozenset({7, 8, 9, 15, 16, 17, 35, 53})


def atomic_numbers(mol: Chem.Mol) -> np.ndarray:
    """Return the atomic numbers of a molecule, (n_atoms,)."""
    return np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()], dtype=np.int64)


def smiles_error(smiles: str) -> str:
    """Describe why a text is not a SMILES."""
    mol = Chem.MolFromSmiles(smiles, sanitize=False)
    if mol is None and smiles.isalpha():
        return "names are not looked up: give a SMILES"
    if mol is None:
        return "check the brackets, ring closures and element symbols"
    if dative := dative_error(mol):
        return dative
    problems = Chem.DetectChemistryProblems(mol)
    return "; ".join(p.Message() for p in problems) or "its valences are impossible"


def dative_error(mol: Chem.Mol) -> str:
    """Describe how to write dative bonds with charges; empty if there are none."""
    charged = Chem.RWMol(mol)
    dative = [b for b in charged.GetBonds() if b.GetBondType() == Chem.BondType.DATIVE]
    for bond in dative:
        bond.SetBondType(Chem.BondType.SINGLE)
        for atom, change in ((bond.GetBeginAtom(), 1), (bond.GetEndAtom(), -1)):
            atom.SetFormalCharge(atom.GetFormalCharge() + change)
    if not dative:
        return ""
    fits = Chem.SanitizeMol(charged, catchErrors=True) == Chem.SanitizeFlags.SANITIZE_NONE
    example = Chem.MolToSmiles(Chem.RemoveHs(charged)) if fits else "[NH3+][BH3-]"
    return f"write dative bonds with charges, as in {example}"


def missing_hydrogens(mol: Chem.Mol) -> int:
    """Count the implicit hydrogens of a geometry that has explicit ones.

    If only hydrogens of carbon are left out, and all of them for two or more carbon atoms, as is
    usual in docking, they are not counted.
    """
    is_3d = mol.GetNumConformers() > 0 and mol.GetConformer().Is3D()
    if not is_3d or 1 not in atomic_numbers(mol):
        return 0
    missing = {atom.GetIdx(): n for atom in mol.GetAtoms() if (n := atom.GetTotalNumHs())}
    on_carbon = mol.GetSubstructMatches(Chem.MolFromSmarts("[#6]~[#1]"))
    polar_alone = not on_carbon and all(mol.GetAtomWithIdx(i).GetAtomicNum() == 6 for i in missing)
    return 0 if polar_alone and len(missing) > 1 else sum(missing.values())


def bonds_are_missing(mol: Chem.Mol, charge: int) -> bool:
    """Return whether a geometry has no bonds but more than isolated atoms."""
    return (
        mol.GetNumBonds() == 0
        and mol.GetNumConformers() > 0
        and mol.GetConformer().Is3D()
        and all(atom.GetFormalCharge() == 0 for atom in mol.GetAtoms())
        and (
            charge != 0
            or len(near_pairs(atomic_numbers(mol), mol.GetConformer().GetPositions())) > 0
        )
    )


def has_all_positions(mol: Chem.Mol) -> bool:
    """Return whether this is a geometry with all hydrogens, not a drawing."""
    return (
        mol.GetNumConformers() > 0
        and all(atom.GetTotalNumHs() == 0 for atom in mol.GetAtoms())
        and (mol.GetConformer().Is3D() or _is_planar_geometry(mol))
    )


def is_drawing_in_3d(mol: Chem.Mol) -> bool:
    """Return whether this is a drawing marked as 3D: flat despite an atom with four bonds."""
    return (
        mol.GetNumConformers() > 0
        and any(atom.GetDegree() >= 4 for atom in mol.GetAtoms())
        and not mol.GetConformer().GetPositions()[:, 2].any()
    )


def multiplicity_of(mol: Chem.Mol, charge: int) -> int:
    """Return the multiplicity from the unpaired electrons, or the lowest possible one."""
    unpaired = sum(map(_unpaired_electrons, mol.GetAtoms()))
    electrons = sum(atom.GetAtomicNum() for atom in mol.GetAtoms()) - charge
    return unpaired + 1 if (unpaired + electrons) % 2 == 0 else electrons % 2 + 1


def _unpaired_electrons(atom: Chem.Atom) -> int:
    """Count the radical electrons of an atom, excluding an s pair.

    Carbenes have an s pair only with a double bond or next to a lone pair (N-heterocyclic ones).
    """
    radicals = atom.GetNumRadicalElectrons()
    if radicals < 2 or atom.GetAtomicNum() not in KEEP_S_PAIR:
        return radicals
    is_triplet_carbene = (
        atom.GetAtomicNum() == CARBON
        and radicals == 2
        and atom.GetTotalValence() == atom.GetTotalDegree()
        and not any(near.GetAtomicNum() in LONE_PAIRS for near in atom.GetNeighbors())
    )
    return radicals if is_triplet_carbene else radicals - 2


def _is_planar_geometry(mol: Chem.Mol) -> bool:
    """Return whether this is a flat molecule, not a drawing with equal bond lengths."""
    numbers, positions = atomic_numbers(mol), mol.GetConformer().GetPositions()
    near = near_pairs(numbers, positions)
    lengths = np.linalg.norm(positions[near[:, 0]] - positions[near[:, 1]], axis=1)
    bonded = {(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in mol.GetBonds()}
    covalent = covalent_radii[numbers][near].sum(axis=1)
    return (
        1 in numbers
        and all(atom.GetDegree() < 4 for atom in mol.GetAtoms())
        and {tuple(pair) for pair in near.tolist()} == {tuple(sorted(pair)) for pair in bonded}
        and bool((lengths > SHORTEST_BOND * covalent).all())
    )
