"""Check that a geometry is still the same molecule."""

from __future__ import annotations

import numpy as np
from ase.data import covalent_radii
from rdkit import Chem, rdBase

from diffrelax.errors import InputError
from diffrelax.molecule import Molecule
from diffrelax.molecule.checks import NO_BOND_OF_CARBON, SHORTEST_BOND
from diffrelax.molecule.connectivity import near_pairs
from diffrelax.molecule.stereo import TETRAHEDRAL, assign_stereo, isomeric_smiles
from diffrelax.molecule.twists import overlooked_twists

BROKEN = 0.40  # Å beyond the covalent radii; the longest bond in QM9 is at 0.26
STRETCHED = 0.20  # Å; more than a long bond differs between levels of theory
FORMED = 0.20  # Å; the shortest gap between atoms that are not bonded is at 0.25 in QM9
# Å beyond the usual length for its order; a longer bond of nonmetals is always broken
NO_BOND_OF_HYDROGEN = 0.40
NO_BOND = 0.50  # 0.47 in N2O3
SURE_BOND = 0.10  # Å beyond the covalent radii; closer nonmetals are always bonded
SHORTER = {1.0: 0.0, 1.5: 0.08, 2.0: 0.19, 3.0: 0.32}  # Å, by bond order; C–C 1.52, C≡C 1.20 Å
NONMETALS = (1, 6, 7, 8, 9, 14, 15, 16, 17, 33, 34, 35, 53)  # bonds to boron may be dative
NAMED_CHANGES = 3
RIGHT, LOST = 0.9, 0.65  # sense of the twist of a cumulene: 64 to 90°, below 41°
CERTAIN = 0.3  # a larger sense has a certain sign
DOUBLE_BOND = {Chem.BondStereo.STEREOE: "E", Chem.BondStereo.STEREOZ: "Z"}


def identity_change(before: Molecule, positions: np.ndarray) -> str:
    """Describe how a molecule changed into another one; same order of atoms.

    A bond broke if it exceeds the sum of the covalent radii by 0.4 Å and became at least 0.2 Å
    longer. A bond formed if two atoms came closer than 0.2 Å beyond that sum. The gap allows for
    differences between levels of theory. Between nonmetals, two limits apply even if the start was
    distorted: a bond is broken if it is 0.3 Å longer than usual for its order (0.4 Å to hydrogen,
    0.5 Å between atoms other than carbon), and atoms within 0.1 Å of the sum of their radii are
    bonded. Metal ions without bonds form none.

    R/S and E/Z follow from the positions and the bonds of ``before``. The inversion of an amine is
    no change, unless its nitrogen has no hydrogen and is in a three-membered ring or at a
    bridgehead; phosphines and arsines do not invert. Allenes and longer cumulenes are compared,
    including the angle between their ends, and so are double bonds in small rings, but not biaryls.
    If the bonds are unknown, close pairs count as bonds and stereochemistry is not compared.

    Parameters
    ----------
    before : Molecule
    positions : (n_atoms, 3) array, Å
        Positions of the same atoms afterwards.

    Returns
    -------
    str
        Empty if it is the same molecule, otherwise what changed, such as ``"bond C3–H7 broke
        (2.41 Å)"`` or ``"C2 changed from R to S"``. Atoms are numbered from 1.

    Raises
    ------
    ValueError
        If the positions have another shape.
    """
    positions = np.asarray(positions, dtype=np.float64)
    if positions.shape != before.positions.shape:
        raise InputError(f"positions of shape {positions.shape} for {before.n_atoms} atoms")
    if not np.isfinite(positions).all():
        return "the positions are not finite"
    changes = _bond_changes(before, positions)
    if not changes and before.bonds:
        mol = before.to_rdkit()
        changes = _stereo_changes(before, mol, positions) + _twist_changes(before, mol, positions)
    more = len(changes) - NAMED_CHANGES
    return "; ".join(changes[:NAMED_CHANGES] + ([f"and {more} more changes"] if more > 0 else []))


def has_enantiomer(molecule: Molecule) -> bool:
    """Return whether the mirror image is another molecule, judged by R/S and cumulenes.

    True if the bonds are unknown.
    """
    smiles = stereo_smiles(molecule)
    return not smiles or smiles != stereo_smiles(mirror_image(molecule))


def mirror_image(molecule: Molecule) -> Molecule:
    """Return a molecule reflected in a plane; bonds and ``smiles`` stay as read."""
    return molecule.with_positions(molecule.positions * [-1.0, 1.0, 1.0], molecule.start)


def _bond_changes(before: Molecule, positions: np.ndarray) -> list[str]:
    numbers = before.numbers
    bonded = np.zeros((before.n_atoms, before.n_atoms), dtype=bool)
    usual = np.add.outer(covalent_radii[numbers], covalent_radii[numbers])
    longest = usual + _no_bond(numbers)
    for i, j in bonded_pairs(before):
        bonded[i, j] = True
    for i, j, order in before.bonds:
        longest[i, j] -= SHORTER[order]
    closest = np.where(np.isfinite(longest), usual + SURE_BOND, 0.0)
    old, new = (
        np.linalg.norm(xyz[:, None] - xyz, axis=-1) for xyz in (before.positions, positions)
    )
    alone = ~np.isin(numbers, NONMETALS) & ~bonded.any(axis=0) & ~bonded.any(axis=1)
    unbonded = np.triu(~(bonded | alone | alone[:, None]), 1)
    broke = bonded & (new > np.minimum(np.maximum(usual + BROKEN, old + STRETCHED), longest))
    formed = unbonded & (new < np.where(old >= usual + FORMED, usual + FORMED, closest))
    collapsed = np.triu(new < SHORTEST_BOND * usual, 1)
    changes = []
    for pairs, verb, was_so, before_too in (
        (broke, "broke", old > np.minimum(usual + BROKEN, longest), "stayed broken"),
        (formed & ~collapsed, "formed", old < usual + FORMED, "had formed before"),
        (collapsed, "collapsed", np.zeros_like(collapsed), ""),
    ):
        for i, j in np.argwhere(pairs):
            names = f"{before.label(i)}–{before.label(j)}"
            what = before_too if was_so[i, j] else verb
            changes.append(f"bond {names} {what} ({new[i, j]:.2f} Å)")
    return changes


def _no_bond(numbers: np.ndarray) -> np.ndarray:
    """Return the elongation at which a single bond is broken, (n_atoms, n_atoms), Å; or inf."""
    excess = np.full((len(numbers), len(numbers)), NO_BOND)
    for element, limit in ((6, NO_BOND_OF_CARBON), (1, NO_BOND_OF_HYDROGEN)):
        excess[numbers == element] = excess[:, numbers == element] = limit
    nonmetal = np.isin(numbers, NONMETALS)
    excess[~nonmetal] = excess[:, ~nonmetal] = np.inf
    return excess


def _stereo_changes(before: Molecule, old: Chem.Mol, positions: np.ndarray) -> list[str]:
    new = Chem.Mol(old)
    new.GetConformer().SetPositions(positions)
    with rdBase.BlockLogs():
        assign_stereo(new)
    changes = []
    for a, b in zip(old.GetAtoms(), new.GetAtoms(), strict=True):
        if a.GetChiralTag() in TETRAHEDRAL and a.GetChiralTag() != b.GetChiralTag():
            labels = [x.GetProp("_CIPCode") if x.HasProp("_CIPCode") else "" for x in (a, b)]
            changes.append(f"{before.label(a.GetIdx())} {_described(*labels)}")
    for c, d in zip(old.GetBonds(), new.GetBonds(), strict=True):
        if c.GetStereo() in DOUBLE_BOND and c.GetStereo() != d.GetStereo():
            ends = [before.label(i) for i in (c.GetBeginAtomIdx(), c.GetEndAtomIdx())]
            labels = [DOUBLE_BOND.get(x.GetStereo(), "") for x in (c, d)]
            changes.append(f"{'='.join(ends)} {_described(*labels)}")
    return changes


def _twist_changes(before: Molecule, mol: Chem.Mol, positions: np.ndarray) -> list[str]:
    """Compare the configurations that RDKit ignores."""
    changes = []
    for twist in overlooked_twists(mol):
        old, new = twist.sense(before.positions), twist.sense(positions)
        is_cumulene = len(twist.chain) > 2
        if is_cumulene and abs(old) > RIGHT and abs(new) < LOST:
            kind = "allene" if len(twist.chain) == 3 else "cumulene"
            how = "parallel" if twist.is_axial else "twisted"
            middle = before.label(twist.chain[len(twist.chain) // 2])
            changes.append(f"the ends of the {kind} at {middle} became {how}")
        elif not twist.is_element or old * new > 0 or min(abs(old), abs(new)) < CERTAIN:
            continue
        elif twist.is_axial:
            middle = before.label(twist.chain[len(twist.chain) // 2])
            changes.append(f"{middle} changed its axial configuration")
        else:
            ends = "=".join(before.label(k) for k in twist.chain)
            changes.append(f"{ends} changed its configuration")
    return changes


def _described(old: str, new: str) -> str:
    if old and new and old != new:
        return f"changed from {old} to {new}"
    return f"lost its {old} configuration" if old and not new else "changed its configuration"


def bonded_pairs(molecule: Molecule) -> list[tuple[int, int]]:
    """Return the pairs of bonded atoms, or of close atoms if the bonds are unknown."""
    if molecule.bonds or molecule.formal_charges:
        return [bond[:2] for bond in molecule.bonds]
    return [(int(i), int(j)) for i, j in near_pairs(molecule.numbers, molecule.positions)]


def stereo_smiles(molecule: Molecule) -> str:
    """Return the SMILES with the stereochemistry of the positions; empty without bonds.

    The configuration of an allene is encoded as an isotope of its middle atom.
    """
    if not molecule.bonds:
        return ""
    mol = molecule.to_rdkit()
    ranks = list(Chem.CanonicalRankAtoms(mol, breakTies=False))
    for twist in overlooked_twists(mol):
        if twist.is_axial and twist.is_element:
            swaps = sum(ranks[side[0]] > ranks[side[1]] for side in (twist.left, twist.right))
            turned = (twist.sense(molecule.positions) > 0) ^ (swaps % 2)
            mol.GetAtomWithIdx(twist.chain[len(twist.chain) // 2]).SetIsotope(1 + turned)
    return isomeric_smiles(mol)
