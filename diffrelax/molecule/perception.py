"""Perception of bonds from a geometry."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from itertools import combinations, islice
from typing import NamedTuple

import numpy as np
from ase.data import covalent_radii
from rdkit import Chem
from rdkit.Chem import rdDetermineBonds

from diffrelax.molecule.connectivity import (
    BOND_TOLERANCE,
    constitution,
    flag_aromatic,
    near_pairs,
    skeleton,
)
from diffrelax.molecule.resonance import by_lengths, in_one_form, push_electrons, rank_form
from diffrelax.molecule.stereo import assign_stereo, unlabelled, without_hydrogens

TEMPLATE_TOLERANCE = 0.40  # Å, where a SMILES confirms the bonds, as for F–F
BOND_ORDER_ITERATIONS = 10_000
DOUBTFUL_ORDERS = 6  # compared if charges are separated
ATOM_ORDERS = 20  # RDKit finds the bonds of trinitrotoluene for half of the atom orders
FEW_BONDS = 3.4  # sum of bond orders of carbon from lengths: 3.6 in C2F4, 3.3 if H is missing
STRAIGHT = -0.9  # cosine of an angle of 154°
LEAST_NEIGHBOURS = {6: 3, 7: 3, 8: 2, 16: 2, 34: 2}  # of atoms singly bonded to phosphorus
HYPERVALENT = {15, 16, 33, 34}
ORDER_LENGTH = 0.3  # Å by which a bond shortens when its order increases e-fold
UNCHARGE_SULFUR = {  # an adjacent or conjugated anion cancels its charge; the values are the
    # changes of the bond orders
    "[S+]-[N-,O-,S-]": (1,),
    "[O-;D1]-[S]#[N+]": (1, -1),
    "[S+]=,#[C,P]-[*-;D1]": (-1, 1),
    "[S+]=*-*=*-[*-;D1]": (-1, 1, -1, 1),
    "[S+]=*-*=*-*=*-[*-;D1]": (-1, 1, -1, 1, -1, 1),  # thiophenes with C=O beside sulfur
}


class StandIn(NamedTuple):
    """An element that replaces an ion with the same number of bonds, and the ion's charge."""

    number: int
    charge: int


PHOSPHONIUM, AMIDE, PYRIDINIUM = StandIn(14, 1), StandIn(8, -1), StandIn(6, 1)
MOST_MATCHES = 100
CHOICES = 10  # sets of nitrogen atoms tried as the cations of a molecule


def perceive_bonds(
    numbers: np.ndarray, positions: np.ndarray, charge: int, multiplicity: int, smiles: str
) -> Chem.Mol | None:
    """Find bonds, bond orders and formal charges for a geometry.

    Parameters
    ----------
    numbers : (n_atoms,) array of int
    positions : (n_atoms, 3) array, Å
    charge, multiplicity : int
    smiles : str
        Used for the bond orders if it fits the connectivity; may be empty.

    Returns
    -------
    rdkit.Chem.Mol or None
        With one conformer; None if no bond orders fit.
    """
    template = Chem.MolFromSmiles(smiles) if smiles else None
    template = template and unlabelled(template)
    if template is not None and Chem.GetFormalCharge(template) == charge:
        for tolerance in (BOND_TOLERANCE, TEMPLATE_TOLERANCE):
            mol = skeleton(numbers, near_pairs(numbers, positions, tolerance), positions)
            copies = _copies(_without_contacts(mol, template), Chem.AddHs(template))
            if copies:
                fits = (copy for copy in copies if len(copies) > 1 and _shows(copy, template))
                return by_lengths(next(fits, copies[0]), constitution(template))
    mol = skeleton(numbers, near_pairs(numbers, positions), positions)
    onium = dict.fromkeys(_phosphonium(mol), PHOSPHONIUM)
    ways: list[dict[int, StandIn]] = [{}, onium] if onium else [{}]
    if 0 < len(onium) <= charge:
        ways = [onium]
    found = next(filter(None, (_read_as(mol, charge, multiplicity, way) for way in ways)), None)
    if charge < 0 and (found is None or _has_carbanion(found)):
        others = ({i: AMIDE} for i in _nitrogen(mol, 2))
        read = [found, *(_read_as(mol, charge, multiplicity, way) for way in others)]
        found = min(filter(None, read), key=rank_form, default=None)
    if charge > 1 and found is None:
        found = _pyridinium(mol, charge, multiplicity)
    return None if found is None else by_lengths(found)


def _read_as(
    mol: Chem.RWMol, charge: int, multiplicity: int, stand_ins: Mapping[int, StandIn]
) -> Chem.Mol | None:
    found = _bonds_in_some_order(mol, charge, multiplicity, stand_ins)
    return None if found is None else in_one_form(found)


def _bonds_in_some_order(
    mol: Chem.RWMol, charge: int, multiplicity: int, stand_ins: Mapping[int, StandIn]
) -> Chem.Mol | None:
    """Try several orders of the atoms, some of which are replaced by stand-ins.

    Returns the first result without unnecessary charge separation, or else the best of a few.
    """
    doubtful: list[Chem.Mol] = []
    total = charge
    trial = Chem.RWMol(mol)
    for i, one in stand_ins.items():
        trial.GetAtomWithIdx(i).SetAtomicNum(one.number)
    charge -= sum(one.charge for one in stand_ins.values())
    chance = random.Random(0)
    order = list(range(mol.GetNumAtoms()))
    for _ in range(ATOM_ORDERS):
        renumbered = Chem.RenumberAtoms(trial, order)
        found = _bond_orders(renumbered, charge, multiplicity)
        if found is not None:
            found = Chem.RenumberAtoms(found, np.argsort(order).tolist())
            for i, one in stand_ins.items():
                found.GetAtomWithIdx(i).SetAtomicNum(mol.GetAtomWithIdx(i).GetAtomicNum())
                found.GetAtomWithIdx(i).SetFormalCharge(one.charge)
            if not _has_charges_apart(found, total):
                return found
            doubtful.append(found)
        if len(doubtful) == DOUBTFUL_ORDERS:
            break
        chance.shuffle(order)
    return min(map(in_one_form, doubtful), key=rank_form, default=None)


def _has_charges_apart(mol: Chem.Mol, charge: int) -> bool:
    """Return whether carbon is charged, or more atoms than charge and dipolar bonds require."""
    apart = [
        atom
        for atom in mol.GetAtoms()
        if atom.GetFormalCharge()
        and all(o.GetFormalCharge() * atom.GetFormalCharge() >= 0 for o in atom.GetNeighbors())
    ]
    charged_carbon = any(a.GetAtomicNum() == 6 and a.GetFormalCharge() for a in mol.GetAtoms())
    return charged_carbon or sum(abs(atom.GetFormalCharge()) for atom in apart) > abs(charge)


def _phosphonium(mol: Chem.Mol) -> list[int]:
    """Find the phosphorus atoms that may have four single bonds."""
    return [
        atom.GetIdx()
        for atom in mol.GetAtoms()
        if atom.GetAtomicNum() == 15
        and atom.GetDegree() == 4
        and all(
            o.GetDegree() >= LEAST_NEIGHBOURS.get(o.GetAtomicNum(), 1) for o in atom.GetNeighbors()
        )
    ]


def _pyridinium(mol: Chem.RWMol, charge: int, multiplicity: int) -> Chem.Mol | None:
    """Read conjugated polycations that RDKit misses, such as paraquat."""
    for some in islice(combinations(_nitrogen(mol, 3), charge), CHOICES):
        found = _read_as(mol, charge, multiplicity, dict.fromkeys(some, PYRIDINIUM))
        if found and all(found.GetAtomWithIdx(i).GetTotalValence() == 4 for i in some):
            return found
    return None


def _nitrogen(mol: Chem.Mol, neighbours: int) -> Iterator[int]:
    """Yield nitrogen atoms with a number of neighbours: two for amide anions, three for iminium."""
    for atom in mol.GetAtoms():
        if atom.GetAtomicNum() == 7 and atom.GetDegree() == neighbours:
            yield atom.GetIdx()


def _has_carbanion(mol: Chem.Mol) -> bool:
    return any(a.GetAtomicNum() == 6 and a.GetFormalCharge() < 0 for a in mol.GetAtoms())


def bare_carbon(numbers: np.ndarray, positions: np.ndarray, mol: Chem.Mol | None) -> int | None:
    """Find a carbon with missing hydrogens, if there is no C–H bond.

    Its bond orders from the bond lengths (Pauling 1947, doi 10.1021/ja01195a024) add up to less
    than four, and to less than those of its bonds if these are known.

    Parameters
    ----------
    numbers : (n_atoms,) array of int
    positions : (n_atoms, 3) array, Å
    mol : rdkit.Chem.Mol or None
        With the bonds that are known.

    Returns
    -------
    int or None
        Its index; None if there is no such atom.
    """
    i, j = near_pairs(numbers, positions).T
    if {1, 6} in map(set, zip(numbers[i].tolist(), numbers[j].tolist(), strict=True)):
        return None
    stretch = np.linalg.norm(positions[i] - positions[j], axis=-1)
    stretch -= covalent_radii[numbers[i]] + covalent_radii[numbers[j]]
    orders = np.exp(-stretch / ORDER_LENGTH)
    sums = np.bincount(np.r_[i, j], np.r_[orders, orders], minlength=len(numbers))
    drawn = np.full(len(numbers), 4.0)
    if mol is not None:
        for atom in mol.GetAtoms():
            drawn[atom.GetIdx()] = sum(b.GetBondTypeAsDouble() for b in atom.GetBonds())
    bare = (numbers == 6) & (sums > 0) & (sums < FEW_BONDS) & (drawn - sums > 4 - FEW_BONDS)
    for k in np.flatnonzero(bare):
        edges = positions[np.r_[j[i == k], i[j == k]]] - positions[k]
        edges /= np.linalg.norm(edges, axis=1, keepdims=True)
        if len(edges) != 2 or edges[0] @ edges[1] > STRAIGHT:  # distorted CS2 is linear
            return int(k)
    return None


def _bond_orders(mol: Chem.Mol, charge: int, multiplicity: int) -> Chem.Mol | None:
    radical = multiplicity % 2 == 0
    for charged in (True,) if radical else (True, False):
        trial = Chem.RWMol(mol)
        try:
            rdDetermineBonds.DetermineBondOrders(
                trial,
                charge=charge - radical,
                allowChargedFragments=charged,
                embedChiral=False,
                maxIterations=BOND_ORDER_ITERATIONS,
            )
            if radical:
                _discharge(trial)
            _clear_triple_bonds(trial)
            push_electrons(trial, UNCHARGE_SULFUR)
            Chem.SanitizeMol(trial)
        except (ValueError, RuntimeError):
            continue
        radicals = sum(atom.GetNumRadicalElectrons() for atom in trial.GetAtoms())
        if radicals < multiplicity and Chem.GetFormalCharge(trial) == charge:
            return trial
    return None


def _copies(mol: Chem.RWMol, template: Chem.Mol) -> list[Chem.RWMol]:
    """Return copies with the bond orders of a template, one for each distinct mapping.

    There are several if the skeleton is more symmetric than the bond orders, as in a cyanine.
    """
    pattern = skeleton(
        (atom.GetAtomicNum() for atom in template.GetAtoms()),
        ((b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in template.GetBonds()),
    )
    sizes = [(m.GetNumAtoms(), m.GetNumBonds()) for m in (mol, pattern)]
    if sizes[0] != sizes[1]:
        return []
    (bare, atoms), (bare_pattern, asked) = map(_without_ends, (mol, pattern))
    matches = bare.GetSubstructMatches(bare_pattern, uniquify=False, maxMatches=MOST_MATCHES)
    copies: dict[tuple[object, ...], Chem.RWMol] = {}
    for match in matches:
        there = {i: atoms[k] for i, k in zip(asked, match, strict=True)}
        copy = Chem.RWMol(mol)
        for i, k in there.items():
            copy.GetAtomWithIdx(k).SetFormalCharge(template.GetAtomWithIdx(i).GetFormalCharge())
        for bond in template.GetBonds():
            i, k = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
            if i in there and k in there:
                copy.GetBondBetweenAtoms(there[i], there[k]).SetBondType(bond.GetBondType())
        drawn = (
            *(atom.GetFormalCharge() for atom in copy.GetAtoms()),
            *(bond.GetBondType() for bond in copy.GetBonds()),
        )
        copies.setdefault(drawn, copy)
    return list(copies.values())


def _without_ends(mol: Chem.RWMol) -> tuple[Chem.RWMol, list[int]]:
    """Remove hydrogens of heavy atoms; their number is stored as an isotope.

    Returns the molecule and the indices of the atoms that are left.
    """
    bare = Chem.RWMol(mol)
    bare.BeginBatchEdit()
    left = []
    for atom in bare.GetAtoms():
        near = atom.GetNeighbors()
        ends = [a for a in near if a.GetAtomicNum() == 1 and a.GetDegree() == 1]
        if atom.GetAtomicNum() > 1:
            atom.SetIsotope(1 + len(ends))
        if atom.GetAtomicNum() == 1 and len(near) == 1 and near[0].GetAtomicNum() > 1:
            bare.RemoveAtom(atom.GetIdx())
        else:
            left.append(atom.GetIdx())
    bare.CommitBatchEdit()
    return bare, left


def _shows(mol: Chem.Mol, template: Chem.Mol) -> bool:
    """Return whether the geometry has the stereochemistry of a SMILES."""
    read = Chem.Mol(mol)
    flag_aromatic(read)
    Chem.SanitizeMol(read)
    assign_stereo(read)
    return without_hydrogens(read).HasSubstructMatch(template, useChirality=True)


def _without_contacts(mol: Chem.RWMol, template: Chem.Mol) -> Chem.RWMol:
    """Remove bonds of elements that are monatomic ions in a salt."""
    bonded = {a.GetAtomicNum() for a in template.GetAtoms() if a.GetDegree() or a.GetTotalNumHs()}
    alone = {a.GetAtomicNum() for a in template.GetAtoms()} - bonded
    apart = Chem.RWMol(mol)
    for bond in mol.GetBonds():
        ends = bond.GetBeginAtom(), bond.GetEndAtom()
        if not alone.isdisjoint(end.GetAtomicNum() for end in ends):
            apart.RemoveBond(*(end.GetIdx() for end in ends))
    return apart


def _clear_triple_bonds(mol: Chem.RWMol) -> None:
    """Make spurious triple bonds single, in place, such as P–P in diphosphines."""
    for bond in mol.GetBonds():
        ends = (bond.GetBeginAtom(), bond.GetEndAtom())
        if bond.GetBondType() == Chem.BondType.TRIPLE and all(
            end.GetAtomicNum() in HYPERVALENT and end.GetDegree() > 1 for end in ends
        ):
            bond.SetBondType(Chem.BondType.SINGLE)


def _discharge(mol: Chem.RWMol) -> None:
    """Turn the anion that replaced a radical back into the radical."""
    for atom in mol.GetAtoms():
        cation_near = any(other.GetFormalCharge() > 0 for other in atom.GetNeighbors())
        if atom.GetFormalCharge() < 0 and not cation_near:
            atom.SetFormalCharge(atom.GetFormalCharge() + 1)
            return
