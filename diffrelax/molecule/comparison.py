"""Comparison of geometries of a molecule: whether they are the same minimum."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import rdMolAlign
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from diffrelax.errors import InputError
from diffrelax.geometry import rotation_onto, superpose
from diffrelax.molecule import Molecule
from diffrelax.molecule.connectivity import skeleton
from diffrelax.molecule.identity import bonded_pairs, has_enantiomer, mirror_image, stereo_smiles
from diffrelax.units import KCAL_PER_MOL

SAME_RMSD = 0.1  # Å
SAME_ENERGY = 0.1 * KCAL_PER_MOL  # eV
MAX_MATCHES = 10_000
REMEMBERED = 4096  # cached molecules; each is compared with many others


def heavy_atom_rmsd(
    a: Molecule, b: Molecule, *, polar_hydrogens: bool = False, tops: bool = True
) -> float:
    """Root mean square deviation of the heavy atoms, superposed by translation and rotation.

    The lowest value over all mappings of the bond graph onto itself that keep elements and numbers
    of hydrogens (bond orders do not count, so the oxygens of a nitro group are equivalent). If
    there are 10,000 or more, terminal atoms, such as fluorine, are mapped to the nearest ones.
    Molecules with fewer than three heavy atoms are compared with their hydrogens.

    Parameters
    ----------
    a, b : Molecule
        The atoms may be in any order.
    polar_hydrogens : bool
        Include hydrogens that are not bonded to carbon.
    tops : bool
        Include the end atoms of groups such as CF3, see `conformer_atoms`.

    Returns
    -------
    float, Å

    Raises
    ------
    ValueError
        If their bond graphs differ.
    """
    probe, reference = (_heavy_graph(m, polar_hydrogens, tops) for m in (b, a))
    sizes = [(mol.GetNumAtoms(), mol.GetNumBonds()) for mol in (probe, reference)]
    with rdBase.BlockLogs():
        matches = _matches(probe, reference) if sizes[0] == sizes[1] else ()
        if not matches:
            raise InputError(
                f"{a.name or a.formula} and {b.name or b.formula} have different bond graphs"
            )
    if len(matches) == MAX_MATCHES:
        return _rmsd_by_inner_atoms(probe, reference)
    return rdMolAlign.GetBestRMS(probe, reference, map=[list(enumerate(one)) for one in matches])


def same_minimum(a: Molecule, b: Molecule, energy_difference: float | None = None) -> bool:
    """Return whether two geometries are the same minimum.

    They are if `heavy_atom_rmsd` is below 0.1 Å, with polar hydrogens and without, and the energies
    differ by less than 0.1 kcal/mol. This is stricter than the usual comparison of heavy atoms,
    which cannot distinguish rotamers of OH and NH. The rotation of methyl, trifluoromethyl and
    ammonio groups does not count. Mirror-image conformers, such as gauche+ and gauche− butane,
    count as the same minimum unless the molecule is chiral (R/S or an allene).

    Parameters
    ----------
    a, b : Molecule
    energy_difference : float, optional, eV
        Default: not compared.
    """
    if energy_difference is not None and not abs(energy_difference) < SAME_ENERGY:
        return False
    if not _may_coincide(a, b):
        return False
    try:
        if _same_positions(a, b):
            return True
        return (
            _same_positions(_mirrored(a), b)
            and stereo_smiles(a) == stereo_smiles(b)
            and not has_enantiomer(b)
        )
    except ValueError:
        return False


@lru_cache(REMEMBERED)
def conformer_atoms(molecule: Molecule) -> np.ndarray:
    """Return the atoms that distinguish conformers, (n_atoms,) bool.

    All except the end atoms of tops: three terminal atoms of one element on an atom with four
    neighbours, as in CH3, CF3, SiH3 and NH3+. If fewer than three heavy atoms would be left, all
    except the hydrogens of tops, or all atoms.
    """
    near: list[list[int]] = [[] for _ in molecule.numbers]
    for i, j in bonded_pairs(molecule):
        near[i].append(j)
        near[j].append(i)
    tops = np.zeros(molecule.n_atoms, dtype=bool)
    for around in near:
        ends = [i for i in around if len(near[i]) == 1]
        for element in set(molecule.numbers[ends].tolist()):
            alike = [i for i in ends if molecule.numbers[i] == element]
            if len(around) == 4 and len(alike) == 3:
                tops[alike] = True
    heavy = molecule.numbers > 1
    for counted in (~tops, heavy | ~tops):
        if np.count_nonzero(counted & heavy) > 2:
            return counted
    return np.ones(molecule.n_atoms, dtype=bool)


def _same_positions(a: Molecule, b: Molecule) -> bool:
    return all(
        heavy_atom_rmsd(a, b, polar_hydrogens=polar, tops=False) < SAME_RMSD
        for polar in (False, True)
    )


def _may_coincide(a: Molecule, b: Molecule) -> bool:
    """Return quickly whether any superposition could be closer than `SAME_RMSD`.

    The singular values of the heavy atoms' positions do not depend on order, rotation or
    reflection; their difference is a lower bound of the deviation (Mirsky 1960).
    """
    (n_here, here), (n_there, there) = map(_spans, (a, b))
    if n_here != n_there:
        return False
    if n_here < 3:  # compared with their hydrogens
        return True
    return float(np.linalg.norm(here - there)) < SAME_RMSD * np.sqrt(n_here)


@lru_cache(REMEMBERED)
def _spans(molecule: Molecule) -> tuple[int, np.ndarray]:
    """Return the number of heavy atoms that count, and the singular values of their positions."""
    heavy = molecule.positions[conformer_atoms(molecule) & (molecule.numbers > 1)]
    return len(heavy), np.linalg.svd(heavy - heavy.mean(axis=0), compute_uv=False)


_mirrored = lru_cache(REMEMBERED)(mirror_image)


@lru_cache(REMEMBERED)
def _heavy_graph(molecule: Molecule, polar_hydrogens: bool, tops: bool) -> Chem.RWMol:
    mol = skeleton(molecule.numbers, bonded_pairs(molecule), molecule.positions)
    counted = np.ones(molecule.n_atoms, dtype=bool) if tops else conformer_atoms(molecule)
    if np.count_nonzero(counted & (molecule.numbers > 1)) < 3:
        return mol
    mol.BeginBatchEdit()
    for atom in mol.GetAtoms():
        near = atom.GetNeighbors()
        elements = [other.GetAtomicNum() for other in near]
        left_out = [
            z for z, other in zip(elements, near, strict=True) if not counted[other.GetIdx()]
        ]
        atom.SetIsotope(1 + elements.count(1) + sum(z for z in left_out if z > 1))
        is_hydrogen = atom.GetAtomicNum() == 1
        if not counted[atom.GetIdx()] or (is_hydrogen and (6 in elements or not polar_hydrogens)):
            mol.RemoveAtom(atom.GetIdx())
    mol.CommitBatchEdit()
    return mol


def _matches(probe: Chem.Mol, reference: Chem.Mol) -> tuple[tuple[int, ...], ...]:
    return reference.GetSubstructMatches(probe, uniquify=False, maxMatches=MAX_MATCHES)


def _rmsd_by_inner_atoms(probe: Chem.Mol, reference: Chem.Mol) -> float:
    """Return the lowest deviation over all mappings of the atoms with several neighbours.

    Terminal atoms are mapped to the nearest ones of their kind on the same neighbour.
    """
    moving, fixed = (mol.GetConformer().GetPositions() for mol in (probe, reference))
    kinds, kinds_there = (
        np.array([(a.GetAtomicNum(), a.GetIsotope(), a.GetDegree() == 1) for a in mol.GetAtoms()])
        for mol in (probe, reference)
    )
    alike = (kinds[:, None] == kinds_there).all(axis=-1)
    owners, owners_there = (_owners(mol) for mol in (probe, reference))
    inner, inner_there = (np.unique(some) for some in (owners, owners_there))
    lowest = np.inf
    for match in _matches(_part(probe, inner), _part(reference, inner_there)):
        image = dict(zip(inner, inner_there[list(match)], strict=True))
        there = [image[i] for i in inner]
        shift = moving[inner].mean(axis=0), fixed[there].mean(axis=0)
        moved = (moving - shift[0]) @ rotation_onto(moving[inner], fixed[there])
        distances = cdist(moved, fixed - shift[1])
        images = np.array([image[i] for i in owners])
        allowed = alike & (images[:, None] == owners_there)
        mapping = linear_sum_assignment(np.where(allowed, distances**2, 1e6))
        if allowed[mapping].all():
            lowest = min(lowest, superpose(moving, fixed[mapping[1]])[1])
    return float(lowest)


def _owners(mol: Chem.Mol) -> np.ndarray:
    """Return the neighbour of each terminal atom, or the atom itself if it has several."""
    return np.array(
        [a.GetNeighbors()[0].GetIdx() if a.GetDegree() == 1 else a.GetIdx() for a in mol.GetAtoms()]
    )


def _part(mol: Chem.Mol, atoms: np.ndarray) -> Chem.Mol:
    part = Chem.RWMol(mol)
    part.BeginBatchEdit()
    for i in set(range(mol.GetNumAtoms())).difference(atoms.tolist()):
        part.RemoveAtom(i)
    part.CommitBatchEdit()
    return part
