"""Molecules as frozen records: from SMILES, RDKit, ASE and files, and back.

Isotopes only set masses, and atom maps are dropped; neither changes the potential energy surface.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import ase
import numpy as np
from ase.data import atomic_masses, chemical_symbols
from rdkit import Chem, rdBase

from diffrelax.errors import InputError
from diffrelax.molecule.annotations import check_label, read_annotations
from diffrelax.molecule.bonds import BOND_TYPES, Bond, bonds_of, check_orders, isotopes_of
from diffrelax.molecule.checks import (
    check_bonds,
    check_elements,
    check_free,
    check_isotopes,
    check_length,
    check_multiplicity,
    check_positions,
    check_size,
    integer,
)
from diffrelax.molecule.connectivity import flag_aromatic, skeleton
from diffrelax.molecule.drawings import (
    atomic_numbers,
    bonds_are_missing,
    has_all_positions,
    is_drawing_in_3d,
    missing_hydrogens,
    multiplicity_of,
    smiles_error,
)
from diffrelax.molecule.embedding import embed_start
from diffrelax.molecule.perception import bare_carbon, perceive_bonds
from diffrelax.molecule.stereo import (
    assign_stereo,
    clear_unknown,
    ignored_stereo,
    isomeric_smiles,
    leaves_open,
    mol_from_smiles,
)


@dataclass(frozen=True, eq=False)
class Molecule:
    """Atoms with positions and, if known, bonds.

    Parameters
    ----------
    numbers : (n_atoms,) array of int
        Atomic numbers, 1 to 118. Stored read-only.
    positions : (n_atoms, 3) array, Å
        Stored read-only.
    charge : int
        Total charge in units of e.
    multiplicity : int
        2S + 1.
    bonds : tuple of Bond
        Empty if unknown.
    formal_charges : tuple of int
        One for each atom, or empty if unknown.
    name : str
    smiles : str
        Isomeric canonical SMILES with the stereochemistry of the positions, without explicit
        hydrogens except those that make an imine E or Z; empty if the bonds are unknown. It
        identifies the molecule as read: `with_positions` keeps it.
    start : str
        Origin of the positions: ``"given"``, ``"mmff94"``, ``"uff"``, or ``"embedded"`` if neither
        force field has parameters. ``"mmff94 unconverged"`` and ``"uff unconverged"`` mark
        incomplete relaxations. Later stages set ``"diffusion"``, the name of a level, or the origin
        of a conformer or sample, such as ``"etkdg 3"`` or ``"chain 0"``.
    isotopes : tuple of int
        Mass number of each atom, 0 for the natural mixture; empty if there are no labels. They are
        not part of ``smiles``.
    left_open : bool
        Whether it was embedded from an input with unspecified stereochemistry; ``smiles`` has the
        stereochemistry of the embedding.

    Raises
    ------
    ValueError
        If there are no atoms or an unknown element; positions are not finite, have the wrong shape,
        or coincide; numbers, charge or multiplicity are not integers; the multiplicity does not fit
        the electrons; or two bonds join the same atoms.
    """

    numbers: np.ndarray
    positions: np.ndarray
    charge: int = 0
    multiplicity: int = 1
    bonds: tuple[Bond, ...] = ()
    formal_charges: tuple[int, ...] = ()
    name: str = ""
    smiles: str = ""
    start: str = "given"
    isotopes: tuple[int, ...] = ()
    left_open: bool = False

    def __post_init__(self) -> None:
        given = self.numbers
        numbers = np.array(given, dtype=np.int64)
        positions = np.array(self.positions, dtype=np.float64)
        numbers.flags.writeable = positions.flags.writeable = False
        object.__setattr__(self, "numbers", numbers)
        object.__setattr__(self, "positions", positions)
        object.__setattr__(self, "charge", integer("charge", self.charge))
        object.__setattr__(self, "multiplicity", integer("multiplicity", self.multiplicity))
        object.__setattr__(self, "bonds", tuple(Bond(*bond) for bond in self.bonds))
        if not np.array_equal(numbers, given):
            raise InputError(f"atomic numbers {given} are not whole numbers: correct them")
        check_elements(numbers)
        check_positions(numbers, positions)
        check_multiplicity(numbers, self.charge, self.multiplicity)
        check_bonds(self.n_atoms, self.charge, self.bonds, self.formal_charges)
        check_isotopes(numbers, self.isotopes)

    def __repr__(self) -> str:
        ion = f", charge {self.charge:+d}" if self.charge else ""
        open_shell = f", multiplicity {self.multiplicity}" if self.multiplicity > 1 else ""
        return f"Molecule({self.name!r}, {self.formula}{ion}{open_shell}, start {self.start!r})"

    def __reduce__(self) -> tuple[type[Molecule], tuple[Any, ...]]:
        return type(self), tuple(getattr(self, field.name) for field in fields(self))

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.numbers)

    @property
    def masses(self) -> np.ndarray:
        """Masses, (n_atoms,), amu, of the isotopes or the natural mixture."""
        table = Chem.GetPeriodicTable()
        masses = atomic_masses[self.numbers]
        for i, mass_number in enumerate(self.isotopes):
            if mass_number:
                masses[i] = table.GetMassForIsotope(int(self.numbers[i]), mass_number)
        return masses

    @property
    def is_embedded(self) -> bool:
        """Whether its geometry is an embedding, possibly relaxed by a force field."""
        return self.start.partition(" ")[0] in ("mmff94", "uff", "embedded")

    @property
    def n_heavy(self) -> int:
        """Number of atoms other than hydrogen."""
        return int(np.count_nonzero(self.numbers > 1))

    def label(self, atom: int) -> str:
        """Return the label of an atom, such as ``C3``, counted from 1."""
        return f"{chemical_symbols[self.numbers[atom]]}{atom + 1}"

    @property
    def symbols(self) -> tuple[str, ...]:
        """Element symbols, one for each atom."""
        return tuple(chemical_symbols[z] for z in self.numbers)

    @property
    def isotopic_smiles(self) -> str:
        """``smiles`` with isotopes, such as ``[2H]C([2H])([2H])O``."""
        if not (self.smiles and self.isotopes):
            return self.smiles
        mol = self.to_rdkit()
        for atom, mass_number in zip(mol.GetAtoms(), self.isotopes, strict=True):
            atom.SetIsotope(mass_number)
        return isomeric_smiles(mol)

    @property
    def formula(self) -> str:
        """Formula in Hill order, without the charge, such as ``C2H6O``."""
        return ase.Atoms(self.numbers).get_chemical_formula("hill")

    @classmethod
    def from_smiles(
        cls,
        smiles: str,
        *,
        name: str = "",
        seed: int = 42,
        multiplicity: int | None = None,
        max_atoms: int | None = None,
    ) -> Molecule:
        """Embed a SMILES with ETKDGv3 and relax it with MMFF94, or UFF if MMFF94 lacks parameters.

        The order of atoms is that of ``AddHs(MolFromSmiles(smiles))``. Unspecified stereochemistry
        is chosen by the embedding; the ``smiles`` of the result has the choice. Stereo tags of
        nitrogen are used only in a three-membered ring or at a bridgehead, where it cannot invert.
        If ETKDGv3 fails, as for small cages, simpler embeddings are tried, and their
        stereochemistry is checked. For strained rings, the lowest of many embeddings is used.

        Parameters
        ----------
        smiles : str
        name : str
            Default: the SMILES as given.
        seed : int
            Random seed for the embedding, 0 <= seed < 2**31 - 8.
        multiplicity : int, optional
            Default: one more than the number of radical electrons in the SMILES: ``O=O`` is a
            singlet, ``[O][O]`` a triplet. Two electrons count as an s pair for atoms of groups 2,
            13 and 14, and for carbenes with a double bond or next to a lone pair.
        max_atoms : int, optional
            Reject larger molecules, hydrogens included.

        Raises
        ------
        ValueError
            If the text is not a SMILES, has a dummy atom or too many atoms, specifies a
            configuration that RDKit ignores, or cannot be embedded. RDKit ignores those of allenes
            and longer cumulenes, trans double bonds in rings of fewer than eight atoms, E/Z of
            double bonds between equal branches of a ring, and centres that are not tetrahedral.
        """
        smiles = smiles.strip()
        if not smiles:
            raise InputError("the SMILES is empty")
        check_length(smiles)
        with rdBase.BlockLogs():
            mol = mol_from_smiles(smiles)
            if mol is None:
                raise InputError(f"{smiles!r} is not a SMILES: {smiles_error(smiles)}")
            if ignored := ignored_stereo(smiles):
                raise InputError(
                    f"{smiles!r} specifies {ignored}, which cannot be embedded: remove @, / "
                    "or \\, or give coordinates"
                )
        return cls.from_rdkit(
            mol, name=name or smiles, seed=seed, multiplicity=multiplicity, max_atoms=max_atoms
        )

    @classmethod
    def from_rdkit(
        cls,
        mol: Chem.Mol,
        *,
        name: str = "",
        seed: int = 42,
        charge: int | None = None,
        multiplicity: int | None = None,
        max_atoms: int | None = None,
    ) -> Molecule:
        """Convert an RDKit molecule with its 3D conformer, or embed it.

        The first conformer is used. A molecule without a conformer, or with a 2D drawing, is
        embedded like a SMILES; a geometry without hydrogens gets them (after the other atoms) and
        is relaxed. If a 3D conformer has no bonds, they are perceived as in `from_atoms`.

        Parameters
        ----------
        mol : rdkit.Chem.Mol
        name : str
            Default: the property ``_Name``, or the SMILES.
        seed : int
            Random seed for the embedding, 0 <= seed < 2**31 - 8.
        charge : int, optional
            Default: the sum of the formal charges, which it must equal if bonds are known.
        multiplicity : int, optional
            Default: one more than the number of radical electrons.
        max_atoms : int, optional
            Reject larger molecules, hydrogens included.

        Raises
        ------
        ValueError
            If it has no atoms or a dummy atom, is a pattern (SMARTS), has another charge, has only
            some of its hydrogens in 3D, or cannot be embedded.
        """
        check_elements(atomic_numbers(mol))
        check_size(mol.GetNumAtoms())
        if any(atom.HasQuery() for atom in mol.GetAtoms()):
            raise InputError("it is a SMARTS pattern: give the SMILES of a molecule")
        with rdBase.BlockLogs():
            mol = Chem.Mol(mol)
            name = name or (mol.GetProp("_Name").strip() if mol.HasProp("_Name") else "")
            mol.UpdatePropertyCache(strict=False)
            if is_drawing_in_3d(mol):
                mol.GetConformer().Set3D(False)
            formal = Chem.GetFormalCharge(mol)
            charge = formal if charge is None else integer("charge", charge)
            if bonds_are_missing(mol, charge):
                atoms = ase.Atoms(atomic_numbers(mol), mol.GetConformer().GetPositions())
                bare = cls.from_atoms(atoms, name=name, charge=charge, multiplicity=multiplicity)
                return replace(bare, isotopes=isotopes_of(mol))
            if charge != formal:
                raise InputError(
                    f"the charge is {charge}, but the formal charges add up to {formal}: "
                    "correct one of them"
                )
            start, asked = "given", mol
            if missing := missing_hydrogens(mol):
                raise InputError(
                    f"{missing} hydrogens are missing: add them, or correct bond orders, "
                    "charges or radicals (M  CHG, M  RAD)"
                )
            if not has_all_positions(mol):
                clear_unknown(mol)
                mol, start = embed_start(mol, seed, max_atoms)
        molecule = _with_bonds(
            mol,
            charge=charge,
            multiplicity=multiplicity_of(mol, charge) if multiplicity is None else multiplicity,
            name=name,
            start=start,
        )
        return replace(molecule, left_open=mol is not asked and leaves_open(asked, mol))

    @classmethod
    def from_atoms(
        cls,
        atoms: ase.Atoms,
        *,
        name: str = "",
        charge: int | None = None,
        multiplicity: int | None = None,
    ) -> Molecule:
        """Convert ASE atoms and perceive the bonds.

        Bonds come from ``atoms.info["smiles"]``, otherwise from RDKit's rdDetermineBonds (Kim and
        Kim 2015, doi 10.1002/bkcs.10334). If no bond orders fit, ``bonds``, ``formal_charges`` and
        ``smiles`` are empty.

        Parameters
        ----------
        atoms : ase.Atoms
        name : str
            Default: ``atoms.info["name"]``, or the SMILES, or the formula.
        charge : int, optional
            Default: ``atoms.info["charge"]`` or ``["total_charge"]`` (keys in upper or lower case);
            otherwise the rounded sum of nonzero initial charges; otherwise that of the SMILES.
        multiplicity : int, optional
            Default: ``atoms.info["multiplicity"]`` or ``["spin_multiplicity"]``; otherwise one more
            than the rounded sum of the initial magnetic moments if any is not zero; otherwise 1 for
            an even number of electrons and 2 for an odd number.

        Raises
        ------
        ValueError
            If the atoms are periodic, constrained or too many; do not match the SMILES or its
            charge; lack hydrogens; or are not a valid molecule (see the class).
        """
        if any(atoms.pbc):
            raise InputError("a periodic system is not a molecule: set pbc to False")
        check_free(type(constraint).__name__ for constraint in atoms.constraints)
        check_size(len(atoms))
        annotations = read_annotations(atoms, charge, multiplicity)
        bare = cls(
            atoms.numbers,
            atoms.positions,
            charge=annotations.charge,
            multiplicity=annotations.multiplicity,
            name=name or annotations.name,
            isotopes=annotations.isotopes,
        )
        known = (bare.charge, bare.multiplicity, annotations.smiles)
        with rdBase.BlockLogs():
            mol = perceive_bonds(bare.numbers, bare.positions, *known)
            carbon = bare_carbon(bare.numbers, bare.positions, mol)
        if carbon is not None:
            raise InputError(
                f"hydrogens are missing: the bonds of C{carbon + 1} are too long for a carbon "
                "without any. Add them, or give its SMILES if it has none"
            )
        if mol is None:
            return replace(bare, name=bare.name or bare.formula)
        molecule = _with_bonds(
            mol, charge=bare.charge, multiplicity=bare.multiplicity, name=bare.name, start="given"
        )
        molecule = replace(molecule, isotopes=bare.isotopes)
        check_label(annotations.smiles, molecule)
        return molecule

    def to_atoms(self) -> ase.Atoms:
        """Return ASE atoms; ``info`` holds name and smiles if known, charge and multiplicity.

        Isotopes are set as masses.
        """
        texts = {"name": self.name, "smiles": self.isotopic_smiles}
        info = {key: text for key, text in texts.items() if text}  # ASE misreads empty texts
        return ase.Atoms(
            self.numbers,
            positions=self.positions,
            masses=self.masses if self.isotopes else None,
            info={**info, "charge": self.charge, "multiplicity": self.multiplicity},
        )

    def to_rdkit(self, *, stereo: bool = True) -> Chem.Mol:
        """Return an RDKit molecule with one conformer.

        It has no isotope labels.

        Parameters
        ----------
        stereo : bool
            Assign the stereochemistry of the conformer; this takes most of the time.
        """
        mol = skeleton(self.numbers, (bond[:2] for bond in self.bonds), self.positions)
        for atom, charge in zip(mol.GetAtoms(), self.formal_charges, strict=False):
            atom.SetFormalCharge(charge)
        for bond, (_, _, order) in zip(mol.GetBonds(), self.bonds, strict=True):
            bond.SetBondType(BOND_TYPES[order])
        flag_aromatic(mol)
        mol.SetProp("_Name", self.name)
        with rdBase.BlockLogs():
            Chem.SanitizeMol(mol, Chem.SANITIZE_ALL ^ Chem.SANITIZE_PROPERTIES)
            if stereo:
                assign_stereo(mol)
        return mol.GetMol()

    def with_positions(self, positions: np.ndarray, start: str = "given") -> Molecule:
        """Return the molecule with other positions; bonds and ``smiles`` are kept.

        Parameters
        ----------
        positions : (n_atoms, 3) array, Å
        start : str
            Origin of the positions.

        Raises
        ------
        ValueError
            If they are not finite, have the wrong shape, or coincide.
        """
        return replace(self, positions=positions, start=start)


def _with_bonds(
    mol: Chem.Mol, *, charge: int, multiplicity: int, name: str, start: str
) -> Molecule:
    check_orders(mol)
    molecule = Molecule(
        atomic_numbers(mol),
        mol.GetConformer().GetPositions(),
        charge=charge,
        multiplicity=multiplicity,
        bonds=bonds_of(mol),
        formal_charges=tuple(a.GetFormalCharge() for a in mol.GetAtoms()),
        name=name,
        start=start,
        isotopes=isotopes_of(mol),
    )
    with rdBase.BlockLogs():
        read = molecule.to_rdkit()  # aromatic even if given as a Kekulé structure
        smiles = isomeric_smiles(read)
    return replace(molecule, bonds=bonds_of(read), smiles=smiles, name=name or smiles)
