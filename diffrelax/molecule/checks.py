"""Checks of the data of a molecule; each raises InputError."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from rdkit import Chem
from scipy.spatial import cKDTree

from diffrelax.errors import InputError

MIN_DISTANCE = 0.3  # Å; the shortest bond, H–H, is 0.74 Å
# Å beyond the radii; 0.13 in QM9, 0.29 in the longest known C–C bond, 1.81 Å
NO_BOND_OF_CARBON = 0.30
SHORTEST_BOND = 0.75  # times the covalent radii; N≡N has 0.77
LONGEST_SMILES = 5000  # characters; RDKit crashes on one of 30,000
MOST_ATOMS = 5000  # RDKit needs memory for each pair
BOND_ORDERS = (1.0, 1.5, 2.0, 3.0)


def check_length(smiles: str) -> None:
    """Raise ValueError if a SMILES is too long to be read."""
    if len(smiles) > LONGEST_SMILES:
        raise InputError(
            f"a SMILES of {len(smiles):,} characters (limit {LONGEST_SMILES:,}): give coordinates"
        )


def check_size(n_atoms: int) -> None:
    """Raise ValueError if there are too many atoms to look for bonds."""
    if n_atoms > MOST_ATOMS:
        raise InputError(f"{n_atoms:,} atoms: a molecule may have at most {MOST_ATOMS:,}")


def check_free(constraints: Iterable[str]) -> None:
    """Raise ValueError if there are constraints, which only the optimizers support."""
    if kinds := ", ".join(sorted(set(constraints))):
        raise InputError(
            f"it has constraints ({kinds}), but all atoms would move: remove them, or use "
            "the ASE optimizer diffrelax.TRIC, which holds FixAtoms"
        )


def check_elements(numbers: np.ndarray) -> None:
    """Raise ValueError if there are no atoms, or an unknown element."""
    if numbers.ndim != 1 or len(numbers) == 0:
        raise InputError("there are no atoms")
    unknown = np.flatnonzero((numbers < 1) | (numbers >= len(chemical_symbols)))
    if len(unknown):
        i = unknown[0]
        raise InputError(
            f"atom {i + 1} is not an element (atomic number {numbers[i]}): replace dummy "
            "atoms such as * or X"
        )


def check_positions(numbers: np.ndarray, positions: np.ndarray) -> None:
    """Raise ValueError if positions (Å) are not finite, have the wrong shape, or coincide."""
    n = len(numbers)
    if positions.shape != (n, 3):
        raise InputError(f"positions have the shape {positions.shape}; {n} atoms need ({n}, 3)")
    if not np.isfinite(positions).all():
        i = np.flatnonzero(~np.isfinite(positions).all(axis=1))[0]
        raise InputError(f"the position of atom {i + 1} is not finite: {positions[i].tolist()}")
    if n == 1:
        return
    distances, nearest = cKDTree(positions).query(positions, k=2)  # itself and the nearest other
    i = distances[:, 1].argmin()
    if (distance := distances[i, 1]) < MIN_DISTANCE:
        pair = sorted({i, *nearest[i]})[:2]
        names = [f"{chemical_symbols[numbers[k]]}{k + 1}" for k in pair]
        raise InputError(
            f"atoms {names[0]} and {names[1]} coincide, {distance:.3f} Å apart: check the "
            "coordinates and their unit, Å"
        )


def check_multiplicity(numbers: np.ndarray, charge: int, multiplicity: int) -> None:
    """Raise ValueError if a charge or multiplicity does not fit the electrons."""
    electrons = int(numbers.sum()) - charge
    if electrons < 1:
        raise InputError(f"charge {charge:+d} leaves {electrons} electrons: check the charge")
    if multiplicity < 1 or (electrons + multiplicity) % 2 == 0 or multiplicity > electrons + 1:
        fitting = "1, 3, …" if electrons % 2 == 0 else "2, 4, …"
        raise InputError(
            f"multiplicity {multiplicity} does not fit {electrons} electrons (charge {charge:+d}): "
            f"give {fitting} or correct the charge"
        )


def check_bonds(
    n_atoms: int,
    charge: int,
    bonds: Sequence[tuple[int, int, float]],
    formal_charges: Sequence[int],
) -> None:
    """Raise ValueError if bonds or formal charges do not fit the atoms."""
    for bond in bonds:
        if not 0 <= bond[0] < bond[1] < n_atoms or bond[2] not in BOND_ORDERS:
            raise InputError(f"{bond} is not a bond: begin < end < n_atoms, order 1, 1.5, 2 or 3")
    if len({bond[:2] for bond in bonds}) < len(bonds):
        raise InputError("two bonds join the same atoms: keep one of them")
    if formal_charges and (len(formal_charges) != n_atoms or sum(formal_charges) != charge):
        raise InputError(
            f"formal charges {formal_charges} do not fit {n_atoms} atoms of total charge {charge}"
        )


def check_isotopes(numbers: np.ndarray, isotopes: Sequence[int]) -> None:
    """Raise ValueError if mass numbers are not those of isotopes of the atoms."""
    if isotopes and len(isotopes) != len(numbers):
        raise InputError(f"isotopes {isotopes} do not fit {len(numbers)} atoms")
    table = Chem.GetPeriodicTable()
    for number, mass_number in zip(numbers.tolist(), isotopes, strict=False):
        if mass_number and not table.GetMassForIsotope(number, mass_number):
            symbol = table.GetElementSymbol(number)
            raise InputError(f"there is no isotope {mass_number}{symbol}: correct its mass number")


def integer(what: str, value: Any) -> int:
    """Return a value as an int; raise ValueError if it is not a whole number."""
    try:
        if not isinstance(value, (bool, np.bool_)) and float(value) == int(value):
            return int(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise InputError(f"{what} {value!r} is not an integer: write for example {what}=1")
