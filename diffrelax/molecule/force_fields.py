"""Relaxation with RDKit's force fields."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import chain
from math import nan
from typing import Any

import numpy as np
from ase.data import covalent_radii
from rdkit import Chem, rdBase
from rdkit.Chem import rdForceFieldHelpers
from scipy.spatial import cKDTree

from diffrelax.molecule.checks import NO_BOND_OF_CARBON, check_positions
from diffrelax.molecule.drawings import atomic_numbers
from diffrelax.molecule.held_torsions import (
    Torsion,
    boron_torsions,
    cumulated_torsions,
    senses,
    turned_torsions,
)

FRAGMENT_GAP = 3.0  # Å
RELAXATION_SECONDS = 30  # processor time
ROUNDS = 20
STEPS_A_ROUND = 1000
CARBON_BONDS = ({6}, {6, 7}, {6, 8})
HOLDING = 0.1  # kcal/mol/degree²
ROOM, STAYING = 0.4, 50.0  # Å, kcal/mol/Å²
STRETCHED = 0.3  # relative change of bond lengths


def force_field(mol: Chem.Mol, level: str, *, charges: bool = True, together: bool = True) -> Any:
    """Build an RDKit force field that acts on the conformer of a molecule.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
    level : {"mmff94", "uff"}
    charges : bool
        Include the electrostatic term of MMFF94; UFF has none.
    together : bool
        Include interactions between fragments.

    Returns
    -------
    rdkit force field or None
        None if parameters are missing.
    """
    helpers = rdForceFieldHelpers
    if level == "uff":
        with rdBase.BlockLogs():  # warnings about unknown atom types
            if not helpers.UFFHasAllMoleculeParams(mol):
                return None
            return helpers.UFFGetMoleculeForceField(mol, ignoreInterfragInteractions=not together)
    if not has_mmff94(mol):
        return None
    properties = helpers.MMFFGetMoleculeProperties(mol)
    properties.SetMMFFEleTerm(charges)
    return helpers.MMFFGetMoleculeForceField(
        mol, properties, ignoreInterfragInteractions=not together
    )


def has_mmff94(mol: Chem.Mol) -> bool:
    """Return whether MMFF94 has parameters for all atoms of a molecule."""
    return bool(rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol))


def hold(
    field: Any,
    level: str,
    torsion: Sequence[int],
    lowest: float,
    highest: float,
    *,
    relative: bool = False,
) -> None:
    """Restrain a torsion of a force field between two angles, degrees.

    They are relative to the current angle if ``relative``.
    """
    add = field.UFFAddTorsionConstraint if level == "uff" else field.MMFFAddTorsionConstraint
    add(*torsion, relative, lowest, highest, HOLDING)


def relax_freely(mol: Chem.Mol, twists: dict[Torsion, float], end: float) -> str:
    """Relax with MMFF94 or UFF; fragments that repel each other are relaxed separately."""
    field, level = _own_field(mol)
    if field is None:
        return "embedded"
    before = mol.GetConformer().GetPositions()
    message = _minimise(mol, field, level, twists, end)
    if _is_scattered(mol):
        mol.GetConformer().SetPositions(before)
        message = _minimise(mol, force_field(mol, level, together=False), level, twists, end)
    return message


def energy_with_holds(mol: Chem.Mol) -> float:
    """Return the MMFF94 or UFF energy, kcal/mol, with the restraints of `relax_freely`.

    NaN if neither has parameters.
    """
    field, level = _own_field(mol)
    if field is None:
        return nan
    _hold_unknown(mol, field, level, {})
    field.Initialize()
    return float(field.CalcEnergy())


def relax_nearby(mol: Chem.Mol) -> str:
    """Relax a geometry in place with MMFF94, or UFF if MMFF94 has no parameters.

    Heavy atoms are restrained to within `ROOM` of their positions, and so are some torsions.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
        With all hydrogens and one conformer.

    Returns
    -------
    str
        The force field: ``"mmff94"`` or ``"uff"``, with `` unconverged`` after an incomplete
        relaxation; empty if neither has parameters, the molecule is torn, or most bonds change so
        much that the unit may not be Å.
    """
    field, level = _own_field(mol)
    if field is None:
        return ""
    stay = field.UFFAddPositionConstraint if level == "uff" else field.MMFFAddPositionConstraint
    for atom in mol.GetAtoms():
        if atom.GetAtomicNum() > 1:
            stay(atom.GetIdx(), ROOM, STAYING)
    before = _bond_lengths(mol)
    message = _minimise(mol, field, level, senses(mol), time.thread_time() + RELAXATION_SECONDS)
    if is_torn(mol):
        return ""
    stretched = np.median(before / _bond_lengths(mol)) if len(before) else 1.0
    return message if abs(stretched - 1) < STRETCHED else ""


def is_torn(mol: Chem.Mol) -> bool:
    """Return whether a bond of carbon is far too long, as in an impossible isomer.

    Also if atoms coincide or positions are not finite.
    """
    positions = mol.GetConformer().GetPositions()
    try:
        check_positions(atomic_numbers(mol), positions)
    except ValueError:
        return True
    for bond in mol.GetBonds():
        ends = [bond.GetBeginAtom(), bond.GetEndAtom()]
        if {end.GetAtomicNum() for end in ends} in CARBON_BONDS:
            i, j = (end.GetIdx() for end in ends)
            usual = sum(covalent_radii[end.GetAtomicNum()] for end in ends)
            if np.linalg.norm(positions[i] - positions[j]) > usual + NO_BOND_OF_CARBON:
                return True
    return False


def _bond_lengths(mol: Chem.Mol) -> np.ndarray:
    positions = mol.GetConformer().GetPositions()
    ends = np.array([(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in mol.GetBonds()], dtype=int)
    begin, end = ends.reshape(-1, 2).T
    return np.linalg.norm(positions[begin] - positions[end], axis=1)


def _own_field(mol: Chem.Mol) -> tuple[Any, str]:
    """Build MMFF94, or else UFF, and return it with its name; None if both lack parameters."""
    for level in ("mmff94", "uff"):
        if field := force_field(mol, level):
            return field, level
    return None, ""


def _minimise(
    mol: Chem.Mol, field: Any, level: str, twists: dict[Torsion, float], end: float
) -> str:
    _hold_unknown(mol, field, level, twists)
    message = _to_minimum(field, level, end)
    turned = list(turned_torsions(mol))
    for ends, angle in turned:
        hold(field, level, ends, angle, angle)
    return _to_minimum(field, level, end) if turned else message


def _hold_unknown(mol: Chem.Mol, field: Any, level: str, twists: dict[Torsion, float]) -> None:
    """Restrain torsions that force fields have no terms for."""
    for ends, angle in chain(cumulated_torsions(mol, twists), boron_torsions(mol)):
        hold(field, level, ends, angle, angle)


def _to_minimum(field: Any, level: str, end: float) -> str:
    for _ in range(ROUNDS):
        if field.Minimize(maxIts=STEPS_A_ROUND) == 0:
            return level
        if time.thread_time() > end:
            break
    return f"{level} unconverged"


def _is_scattered(mol: Chem.Mol) -> bool:
    """Return whether a fragment moved away from all others."""
    positions = mol.GetConformer().GetPositions()
    fragments = list(map(list, Chem.GetMolFrags(mol)))
    return len(fragments) > 1 and any(
        cKDTree(np.delete(positions, fragment, axis=0)).query(positions[fragment])[0].min()
        > FRAGMENT_GAP + 1.0
        for fragment in fragments
    )
