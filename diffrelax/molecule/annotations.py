"""Name, charge, multiplicity and SMILES of ASE atoms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import ase
import numpy as np
from ase.data import atomic_masses
from rdkit import Chem, rdBase

from diffrelax.errors import InputError
from diffrelax.molecule.checks import check_length, integer
from diffrelax.molecule.connectivity import constitution
from diffrelax.molecule.stereo import (
    clear_nominal,
    isomeric_smiles,
    mol_from_smiles,
    unlabelled,
    without_hydrogens,
)

if TYPE_CHECKING:
    from diffrelax.molecule.record import Molecule

SAME_MASS = 0.005  # amu
OTHER_SPINS = ("spin", "uhf", "unpaired", "n_unpaired")
ROUNDING = 0.1  # e; allowed deviation of a sum of partial charges from an integer


class Annotations(NamedTuple):
    """Name, SMILES and isotopes (empty if missing), charge and multiplicity."""

    name: str
    smiles: str
    charge: int
    multiplicity: Any
    isotopes: tuple[int, ...]


def read_annotations(atoms: ase.Atoms, charge: Any, multiplicity: Any) -> Annotations:
    """Read the annotations of atoms, see `diffrelax.molecule.Molecule.from_atoms`.

    Parameters
    ----------
    atoms : ase.Atoms
    charge, multiplicity
        None: read from the atoms.

    Raises
    ------
    ValueError
        If the charge is not an integer, or differs from that of the SMILES.
    """
    info = _info(atoms)
    charge = charge_of(atoms, charge) or 0
    if multiplicity is None:
        names = ("multiplicity", "spin_multiplicity", "mult")
        multiplicity = next((info[name] for name in names if name in info), None)
    if multiplicity is None:
        for name in OTHER_SPINS:
            if info.get(name, 0) != 0:
                raise InputError(f"{name} is ambiguous: write multiplicity=… (2S + 1) instead")
    if multiplicity is None:
        moments = atoms.get_initial_magnetic_moments()
        parity = (int(atoms.numbers.sum()) - charge) % 2
        multiplicity = (round(abs(moments.sum())) if moments.any() else parity) + 1
    isotopes = _isotopes(atoms.numbers, atoms.get_masses()) if atoms.has("masses") else ()
    name, smiles = (text_of(info.get(key, "")) for key in ("name", "smiles"))
    return Annotations(name, smiles, charge, multiplicity, isotopes)


def _isotopes(numbers: np.ndarray, masses: np.ndarray) -> tuple[int, ...]:
    """Return mass numbers of atoms with isotope masses; other masses are ignored."""
    table = Chem.GetPeriodicTable()
    found = []
    for number, mass in zip(numbers.tolist(), masses.tolist(), strict=True):
        nearest = round(mass) if np.isfinite(mass) else 0
        is_natural = abs(mass - atomic_masses[number]) < SAME_MASS
        isotope = table.GetMassForIsotope(number, nearest) if nearest > 0 else 0.0
        found.append(nearest if not is_natural and abs(mass - isotope) < SAME_MASS else 0)
    return tuple(found) if any(found) else ()


def _info(atoms: ase.Atoms) -> dict[str, Any]:
    return {str(key).lower(): value for key, value in atoms.info.items()}


def text_of(value: Any) -> str:
    """Return the text of a value that ASE read as a boolean, number or list."""
    if isinstance(value, (bool, np.bool_)):
        return "T" if value else "F"
    if isinstance(value, (list, np.ndarray)):
        return " ".join(map(text_of, value))
    return "" if value is None else str(value).strip()


def charge_of(atoms: ase.Atoms, charge: Any = None) -> int | None:
    """Return the charge of atoms: as given, or from their info, charges or SMILES.

    None if there is no charge.
    """
    info = _info(atoms)
    check_length(smiles := text_of(info.get("smiles", "")))
    if charge is None:
        names = ("charge", "total_charge", "net_charge")
        charge = next((info[name] for name in names if name in info), None)
    with rdBase.BlockLogs():
        template = Chem.MolFromSmiles(smiles) if smiles else None
    partial = atoms.get_initial_charges()
    if charge is None and partial.any():
        if not np.isfinite(partial).all():
            raise InputError("the atomic charges are not finite: correct them, or give charge")
        charge = round(partial.sum())
        if abs(partial.sum() - charge) > ROUNDING:
            raise InputError(
                f"the atomic charges add up to {partial.sum():.2f}, which is not an "
                "integer: give charge"
            )
    if charge is not None:
        charge = integer("charge", charge)
    if template is None:
        return charge
    formal = Chem.GetFormalCharge(template)
    if charge not in (None, formal):
        raise InputError(
            f"the charge is {charge}, but that of the SMILES {smiles} is {formal}: correct one of "
            "them"
        )
    return formal


def check_label(label: str, molecule: Molecule) -> None:
    """Raise ValueError if the SMILES of a geometry describes another molecule."""
    with rdBase.BlockLogs():
        asked = mol_from_smiles(label) if label else None
        if asked is None:
            return
        asked = Chem.AddHs(unlabelled(asked))
        clear_nominal(asked)
        fits = isomeric_smiles(asked) == molecule.smiles
        if not fits:  # it may leave stereochemistry unspecified
            asked, known = map(without_hydrogens, (asked, molecule.to_rdkit()))
            fits = constitution(asked) == constitution(known) and known.HasSubstructMatch(
                asked, useChirality=True
            )
    if not fits:
        raise InputError(
            f"its SMILES {label} does not match its positions, which are read as "
            f"{molecule.smiles}: correct one of them"
        )
