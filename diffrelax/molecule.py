"""Molecules as frozen records: from SMILES, RDKit, ASE and files, and back.

Isotopes and atom maps are not kept: they do not change the potential energy surface.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import ase
import numpy as np
from ase.data import chemical_symbols, covalent_radii
from rdkit import Chem, rdBase
from rdkit.Chem import rdDetermineBonds, rdDistGeom, rdForceFieldHelpers

MIN_DISTANCE = 0.3  # Å; the shortest bond, H–H, has 0.74 Å
BOND_TOLERANCE = 0.25  # Å beyond the covalent radii; QM9 has N–O bonds at 0.26, C…C gaps at 0.25
EMBEDDING_SECONDS = 60
BRIEF_ITERATIONS = 20
CAGE_TRIALS = 8
TETRAHEDRAL = (Chem.ChiralType.CHI_TETRAHEDRAL_CW, Chem.ChiralType.CHI_TETRAHEDRAL_CCW)
FORCE_FIELD_ROUNDS = 20
STEPS_A_ROUND = 1000
BOND_ORDER_ITERATIONS = 10_000
ATOM_ORDERS = (
    20  # RDKit finds the bond orders of trinitrotoluene in every second order of its atoms
)

BOND_TYPES = {
    1.0: Chem.BondType.SINGLE,
    1.5: Chem.BondType.AROMATIC,
    2.0: Chem.BondType.DOUBLE,
    3.0: Chem.BondType.TRIPLE,
}


class Bond(NamedTuple):
    """A bond between two atoms, ``begin < end``, of order 1, 1.5 (aromatic), 2 or 3."""

    begin: int
    end: int
    order: float


@dataclass(frozen=True, eq=False)
class Molecule:
    """Atoms in space, with what is known about their bonds.

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
        Isomeric canonical SMILES, its stereochemistry taken from the positions, without explicit
        hydrogens but those that make an imine E or Z; empty if the bonds are unknown.
    start : str
        How the positions came to be: ``"given"``, ``"mmff94"``, ``"uff"``, or ``"embedded"`` where
        neither force field has parameters. ``"mmff94 unconverged"`` and ``"uff unconverged"`` mark
        relaxations that were cut off.

    Raises
    ------
    ValueError
        If there are no atoms, an unknown element, positions that are not finite or of the wrong
        shape, two atoms in one place, or a multiplicity that does not fit the electrons.
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

    def __post_init__(self) -> None:
        numbers = np.array(self.numbers, dtype=np.int64)
        positions = np.array(self.positions, dtype=np.float64)
        numbers.flags.writeable = positions.flags.writeable = False
        object.__setattr__(self, "numbers", numbers)
        object.__setattr__(self, "positions", positions)
        _check_elements(numbers)
        _check_positions(numbers, positions)
        _check_multiplicity(numbers, self.charge, self.multiplicity)
        _check_bonds(self)

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.numbers)

    @property
    def symbols(self) -> tuple[str, ...]:
        """Element symbols, one for each atom."""
        return tuple(chemical_symbols[z] for z in self.numbers)

    @property
    def formula(self) -> str:
        """Formula in Hill order, without the charge, such as ``C2H6O``."""
        return ase.Atoms(self.numbers).get_chemical_formula("hill")

    @classmethod
    def from_smiles(
        cls, smiles: str, *, name: str = "", seed: int = 42, multiplicity: int | None = None
    ) -> Molecule:
        """Embed a SMILES with ETKDGv3 and relax it with MMFF94, or UFF without MMFF94 parameters.

        The atoms stand in the order of ``AddHs(MolFromSmiles(smiles))``. Where the SMILES leaves a
        stereo element open, the embedding chooses; the ``smiles`` of the result names the choice.

        Parameters
        ----------
        smiles : str
        name : str
            Default: the SMILES as given.
        seed : int
            Of the embedding.
        multiplicity : int, optional
            Default: one more than the radical electrons that the SMILES shows, so ``O=O`` is a
            singlet and ``[O][O]`` a triplet.

        Raises
        ------
        ValueError
            If the text is not a SMILES, has a dummy atom, or cannot be embedded.
        """
        smiles = smiles.strip()
        if not smiles:
            raise ValueError("the SMILES is empty")
        with rdBase.BlockLogs():
            mol = Chem.MolFromSmiles(smiles)
            if mol is None:
                raise ValueError(f"{smiles!r} is not a SMILES: {_smiles_error(smiles)}")
        return cls.from_rdkit(mol, name=name or smiles, seed=seed, multiplicity=multiplicity)

    @classmethod
    def from_rdkit(
        cls, mol: Chem.Mol, *, name: str = "", seed: int = 42, multiplicity: int | None = None
    ) -> Molecule:
        """Take an RDKit molecule with its 3D conformer as it stands, or embed it.

        A molecule that has no conformer, a 2D drawing or implicit hydrogens is embedded like a
        SMILES (hydrogens are added after the other atoms). Where a 3D conformer comes without any
        bond, the bonds are perceived as in `from_atoms`.

        Parameters
        ----------
        mol : rdkit.Chem.Mol
        name : str
            Default: the property ``_Name``, or the SMILES.
        seed : int
            Of the embedding.
        multiplicity : int, optional
            Default: one more than the number of radical electrons.

        Raises
        ------
        ValueError
            If it has no atoms or a dummy atom, or cannot be embedded.
        """
        _check_elements(_numbers(mol))
        with rdBase.BlockLogs():
            mol = Chem.Mol(mol)
            mol.UpdatePropertyCache(strict=False)
            if _bonds_are_missing(mol):
                atoms = ase.Atoms(_numbers(mol), mol.GetConformer().GetPositions())
                return cls.from_atoms(atoms, name=name, multiplicity=multiplicity)
            start = "given"
            if not _has_all_positions(mol):
                mol, start = _embed(mol, seed)
        charge = Chem.GetFormalCharge(mol)
        return _with_bonds(
            mol,
            charge=charge,
            multiplicity=_multiplicity(mol, charge) if multiplicity is None else multiplicity,
            name=name or (mol.GetProp("_Name").strip() if mol.HasProp("_Name") else ""),
            start=start,
        )

    @classmethod
    def from_atoms(
        cls,
        atoms: ase.Atoms,
        *,
        name: str = "",
        charge: int | None = None,
        multiplicity: int | None = None,
    ) -> Molecule:
        """Take positions from ASE and perceive the bonds.

        Bonds come from ``atoms.info["smiles"]`` if that fits the connectivity of the positions,
        otherwise from RDKit's rdDetermineBonds (Kim and Kim 2015, doi 10.1002/bkcs.10334). If no
        bond orders fit, ``bonds``, ``formal_charges`` and ``smiles`` stay empty.

        Parameters
        ----------
        atoms : ase.Atoms
        name : str
            Default: ``atoms.info["name"]``, or the SMILES, or the formula.
        charge : int, optional
            Default: ``atoms.info["charge"]``, or 0.
        multiplicity : int, optional
            Default: ``atoms.info["multiplicity"]`` or ``["spin_multiplicity"]``; otherwise 1 for an
            even number of electrons and 2 for an odd one.

        Raises
        ------
        ValueError
            If the atoms are periodic or do not make a molecule (see the class).
        """
        if any(atoms.pbc):
            raise ValueError("a periodic system is not a molecule: set pbc to False")
        info = atoms.info
        charge = _integer("charge", info.get("charge", 0) if charge is None else charge)
        given = info.get("multiplicity", info.get("spin_multiplicity"))
        multiplicity = given if multiplicity is None else multiplicity
        bare = cls(
            atoms.numbers,
            atoms.positions,
            charge=charge,
            multiplicity=(int(atoms.numbers.sum()) - charge) % 2 + 1
            if multiplicity is None
            else _integer("multiplicity", multiplicity),
            name=name or text_of(info.get("name", "")),
        )
        with rdBase.BlockLogs():
            mol = _perceive(bare, text_of(info.get("smiles", "")))
        if mol is None:
            return replace(bare, name=bare.name or bare.formula)
        return _with_bonds(
            mol, charge=charge, multiplicity=bare.multiplicity, name=bare.name, start="given"
        )

    def to_atoms(self) -> ase.Atoms:
        """Return ASE atoms; ``info`` holds name, smiles, charge and multiplicity."""
        info = {"name": self.name, "smiles": self.smiles}
        return ase.Atoms(
            self.numbers,
            positions=self.positions,
            info={**info, "charge": self.charge, "multiplicity": self.multiplicity},
        )

    def to_rdkit(self) -> Chem.Mol:
        """Return an RDKit molecule with one conformer, stereochemistry assigned from it."""
        mol = skeleton(self.numbers, (bond[:2] for bond in self.bonds), self.positions)
        for atom, charge in zip(mol.GetAtoms(), self.formal_charges, strict=False):
            atom.SetFormalCharge(charge)
        for bond, (_, _, order) in zip(mol.GetBonds(), self.bonds, strict=True):
            bond.SetBondType(BOND_TYPES[order])
            if order == 1.5:
                for part in (bond, bond.GetBeginAtom(), bond.GetEndAtom()):
                    part.SetIsAromatic(True)
        mol.SetProp("_Name", self.name)
        with rdBase.BlockLogs():
            Chem.SanitizeMol(mol, Chem.SANITIZE_ALL ^ Chem.SANITIZE_PROPERTIES)
            assign_stereo(mol)
        return mol.GetMol()

    def with_positions(self, positions: np.ndarray, start: str | None = None) -> Molecule:
        """Return the same molecule at other positions.

        Parameters
        ----------
        positions : (n_atoms, 3) array, Å
        start : str, optional
            How they came to be. Default: as before.

        Raises
        ------
        ValueError
            If they are not finite, of another shape, or put two atoms in one place.
        """
        return replace(self, positions=positions, start=self.start if start is None else start)


@dataclass(frozen=True)
class Rejected:
    """An input that is not a molecule.

    Parameters
    ----------
    name : str
    source : str
        The text that was given, or the file and the number of the record in it: ``path#3``.
    reason : str
        What is wrong and what to do.
    """

    name: str
    source: str
    reason: str


Input: TypeAlias = str | os.PathLike[str] | Molecule | ase.Atoms | Chem.Mol


def read_molecules(inputs: Input | Iterable[Input], *, seed: int = 42) -> list[Molecule | Rejected]:
    """Read molecules from anything that holds them; the front door for every input.

    Parameters
    ----------
    inputs : str, path, Molecule, ase.Atoms, rdkit.Chem.Mol, or an iterable of these
        A string with the suffix of a known file format is a path, every other string a SMILES,
        optionally followed by a name. A file gives all molecules in it.
    seed : int
        Of the embedding of SMILES.

    Returns
    -------
    list of Molecule or Rejected
        In the order of the inputs. A bad molecule is one `Rejected` and leaves the others alone.
    """
    from diffrelax.files import FORMATS, read_file, read_object, read_smiles

    if isinstance(inputs, (str, os.PathLike, Molecule, ase.Atoms, Chem.Mol)):
        inputs = [inputs]
    found: list[Molecule | Rejected] = []
    for given in inputs:
        if isinstance(given, os.PathLike) or (
            isinstance(given, str) and Path(given).suffix.lower() in FORMATS
        ):
            found += read_file(given, seed=seed)
        elif isinstance(given, str):
            found.append(read_smiles(given, seed=seed))
        else:
            found.append(read_object(given, seed=seed))
    return found


def _check_elements(numbers: np.ndarray) -> None:
    if numbers.ndim != 1 or len(numbers) == 0:
        raise ValueError("there are no atoms")
    unknown = np.flatnonzero((numbers < 1) | (numbers >= len(chemical_symbols)))
    if len(unknown):
        i = unknown[0]
        raise ValueError(
            f"atom {i + 1} is no known element (atomic number {numbers[i]}): replace dummy atoms "
            "such as * or X by real ones"
        )


def _check_positions(numbers: np.ndarray, positions: np.ndarray) -> None:
    n = len(numbers)
    if positions.shape != (n, 3):
        raise ValueError(f"positions have the shape {positions.shape}; {n} atoms need ({n}, 3)")
    if not np.isfinite(positions).all():
        i = np.flatnonzero(~np.isfinite(positions).all(axis=1))[0]
        raise ValueError(f"the position of atom {i + 1} is not finite: {positions[i].tolist()}")
    if n == 1:
        return
    distances = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    distances[np.diag_indices(n)] = np.inf
    i, j = np.unravel_index(distances.argmin(), distances.shape)
    if distances[i, j] < MIN_DISTANCE:
        names = [f"{chemical_symbols[numbers[k]]}{k + 1}" for k in (i, j)]
        raise ValueError(
            f"atoms {names[0]} and {names[1]} are in one place, {distances[i, j]:.3f} Å apart: "
            "check the coordinates and their unit, Å"
        )


def _check_multiplicity(numbers: np.ndarray, charge: int, multiplicity: int) -> None:
    electrons = int(numbers.sum()) - charge
    if electrons < 1:
        raise ValueError(f"charge {charge:+d} leaves {electrons} electrons: check the charge")
    if multiplicity < 1 or (electrons + multiplicity) % 2 == 0 or multiplicity > electrons + 1:
        fitting = "1, 3, …" if electrons % 2 == 0 else "2, 4, …"
        raise ValueError(
            f"multiplicity {multiplicity} does not fit {electrons} electrons (charge {charge:+d}): "
            f"give {fitting} or correct the charge"
        )


def _check_bonds(molecule: Molecule) -> None:
    for bond in molecule.bonds:
        if not 0 <= bond[0] < bond[1] < molecule.n_atoms or bond[2] not in BOND_TYPES:
            raise ValueError(f"{bond} is no bond: begin < end < n_atoms, order 1, 1.5, 2 or 3")
    charges = molecule.formal_charges
    if charges and (len(charges) != molecule.n_atoms or sum(charges) != molecule.charge):
        raise ValueError(
            f"formal charges {charges} do not fit {molecule.n_atoms} atoms of total charge "
            f"{molecule.charge}"
        )


def _integer(what: str, value: Any) -> int:
    try:
        if not isinstance(value, (bool, np.bool_)) and float(value) == int(value):
            return int(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"{what} {value!r} is not a whole number: write {what}=1 or the like")


def text_of(value: Any) -> str:
    """Text of a value that ASE took for a truth, a number or a list when it read a file."""
    if isinstance(value, (bool, np.bool_)):
        return "T" if value else "F"
    if isinstance(value, (list, np.ndarray)):
        return " ".join(map(text_of, value))
    return str(value).strip()


def _smiles_error(smiles: str) -> str:
    mol = Chem.MolFromSmiles(smiles, sanitize=False)
    if mol is None:
        return "check the brackets, ring closures and element symbols"
    problems = Chem.DetectChemistryProblems(mol)
    return "; ".join(p.Message() for p in problems) or "its structure makes no sense"


def _numbers(mol: Chem.Mol) -> np.ndarray:
    return np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()], dtype=np.int64)


def _bonds_are_missing(mol: Chem.Mol) -> bool:
    return (
        mol.GetNumBonds() == 0
        and mol.GetNumConformers() > 0
        and mol.GetConformer().Is3D()
        and all(atom.GetFormalCharge() == 0 for atom in mol.GetAtoms())
        and len(near_pairs(_numbers(mol), mol.GetConformer().GetPositions())) > 0
    )


def _has_all_positions(mol: Chem.Mol) -> bool:
    return (
        mol.GetNumConformers() > 0
        and mol.GetConformer().Is3D()
        and all(atom.GetTotalNumHs() == 0 for atom in mol.GetAtoms())
    )


def _multiplicity(mol: Chem.Mol, charge: int) -> int:
    radicals = sum(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms())
    electrons = sum(atom.GetAtomicNum() for atom in mol.GetAtoms()) - charge
    return radicals + 1 if (radicals + electrons) % 2 == 0 else electrons % 2 + 1


def _embed(mol: Chem.Mol, seed: int) -> tuple[Chem.Mol, str]:
    if mol.GetNumConformers() and mol.GetConformer().Is3D():
        assign_stereo(mol)
    asked = Chem.AddHs(mol)
    asked.RemoveAllConformers()
    for trial, parameters in _embedding_trials(asked, seed):
        if rdDistGeom.EmbedMolecule(trial, parameters) != 0:
            continue
        start = _relax(trial)
        embedded = Chem.Mol(asked)
        embedded.AddConformer(trial.GetConformer())
        assign_stereo(embedded)
        if embedded.HasSubstructMatch(asked, useChirality=True):
            return embedded, start
    raise ValueError(
        f"no 3D structure found for {Chem.MolToSmiles(Chem.RemoveHs(asked))}: check its "
        "stereochemistry and rings, try another seed, or give coordinates"
    )


def _embedding_trials(asked: Chem.Mol, seed: int) -> Iterator[tuple[Chem.Mol, Any]]:
    """Yield molecules to embed and how: briefly, for small cages, and thoroughly.

    In a small cage the neighbours of an atom can lie on one side of it, which RDKit's tests of its
    embeddings refuse. The trials for cages do without these tests: RDKit then only guides chiral
    atoms to their configuration, so those left open are given one by chance.
    """
    parameters: Any = rdDistGeom.ETKDGv3()
    parameters.randomSeed = seed
    parameters.timeout = EMBEDDING_SECONDS
    parameters.maxIterations = BRIEF_ITERATIONS
    yield Chem.Mol(asked), parameters
    chance = random.Random(seed)
    for i in range(CAGE_TRIALS):
        trial = Chem.Mol(asked)
        for atom in trial.GetAtoms():
            if atom.GetDegree() == 4 and atom.GetChiralTag() == Chem.ChiralType.CHI_UNSPECIFIED:
                atom.SetChiralTag(chance.choice(TETRAHEDRAL))
        cage: Any = rdDistGeom.EmbedParameters()
        cage.randomSeed = seed + i
        cage.timeout = EMBEDDING_SECONDS
        cage.maxIterations = BRIEF_ITERATIONS
        cage.useRandomCoords = True
        cage.enforceChirality = False
        yield trial, cage
    parameters.useRandomCoords = True
    parameters.maxIterations = 0
    yield Chem.Mol(asked), parameters


def assign_stereo(mol: Chem.Mol) -> None:
    """Assign R/S and E/Z from the conformer, in place.

    RDKit takes the sign of a chiral atom from three of its neighbours as seen from the atom, which
    is no longer the configuration where all four lie on one side, as in small cages. Here it is the
    sign of the volume that the four neighbours span.
    """
    Chem.AssignStereochemistryFrom3D(mol)
    positions = mol.GetConformer().GetPositions()
    for atom in mol.GetAtoms():
        corners = positions[[other.GetIdx() for other in atom.GetNeighbors()]]
        if len(corners) == 4 and atom.GetChiralTag() in TETRAHEDRAL:
            clockwise = np.linalg.det(corners[:3] - corners[3]) < 0
            atom.SetChiralTag(TETRAHEDRAL[0 if clockwise else 1])
    Chem.AssignStereochemistry(mol, cleanIt=True, force=True)


def _relax(mol: Chem.Mol) -> str:
    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
        properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol)
        name = "mmff94"
        field = rdForceFieldHelpers.MMFFGetMoleculeForceField(
            mol, properties, ignoreInterfragInteractions=False
        )
    elif rdForceFieldHelpers.UFFHasAllMoleculeParams(mol):
        name = "uff"
        field = rdForceFieldHelpers.UFFGetMoleculeForceField(mol, ignoreInterfragInteractions=False)
    else:
        return "embedded"
    for _ in range(FORCE_FIELD_ROUNDS):
        if field.Minimize(maxIts=STEPS_A_ROUND) == 0:
            return name
    return f"{name} unconverged"


def covalent_lengths(numbers: np.ndarray) -> np.ndarray:
    """Add up covalent radii (Cordero et al. 2008, doi 10.1039/b801115j).

    Parameters
    ----------
    numbers : (n_atoms,) array of int

    Returns
    -------
    (n_atoms, n_atoms) array, Å
    """
    radii = covalent_radii[numbers]
    return radii[:, None] + radii


def near_pairs(numbers: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Find the pairs of atoms that are close enough for a bond of some order.

    Parameters
    ----------
    numbers : (n_atoms,) array of int
    positions : (n_atoms, 3) array, Å

    Returns
    -------
    (n_pairs, 2) array of int, the smaller index first
    """
    distances = np.linalg.norm(positions[:, None] - positions, axis=-1)
    return np.argwhere(np.triu(distances < covalent_lengths(numbers) + BOND_TOLERANCE, 1))


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


def _perceive(bare: Molecule, smiles: str) -> Chem.Mol | None:
    pairs = near_pairs(bare.numbers, bare.positions)
    mol = skeleton(bare.numbers, pairs, bare.positions)
    template = Chem.MolFromSmiles(smiles) if smiles else None
    if template is not None and Chem.GetFormalCharge(template) == bare.charge:
        copied = _copy_bonds(mol, Chem.AddHs(template))
        if copied is not None:
            return copied
    chance = random.Random(0)
    order = list(range(bare.n_atoms))
    for _ in range(ATOM_ORDERS):
        found = _bond_orders(Chem.RenumberAtoms(mol, order), bare.charge, bare.multiplicity)
        if found is not None:
            return Chem.RenumberAtoms(found, np.argsort(order).tolist())
        chance.shuffle(order)
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
            Chem.SanitizeMol(trial)
        except (ValueError, RuntimeError):
            continue
        radicals = sum(atom.GetNumRadicalElectrons() for atom in trial.GetAtoms())
        if radicals < multiplicity and Chem.GetFormalCharge(trial) == charge:
            return trial
    return None


def _copy_bonds(mol: Chem.RWMol, template: Chem.Mol) -> Chem.RWMol | None:
    pattern = skeleton(
        (atom.GetAtomicNum() for atom in template.GetAtoms()),
        ((b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in template.GetBonds()),
    )
    sizes = [(m.GetNumAtoms(), m.GetNumBonds()) for m in (mol, pattern)]
    match = mol.GetSubstructMatch(pattern) if sizes[0] == sizes[1] else ()
    if not match:
        return None
    mol = Chem.RWMol(mol)
    for atom in template.GetAtoms():
        mol.GetAtomWithIdx(match[atom.GetIdx()]).SetFormalCharge(atom.GetFormalCharge())
    for bond in template.GetBonds():
        ends = match[bond.GetBeginAtomIdx()], match[bond.GetEndAtomIdx()]
        mol.GetBondBetweenAtoms(*ends).SetBondType(bond.GetBondType())
    return mol


def _discharge(mol: Chem.RWMol) -> None:
    """Turn the carbanion, or its like, that stood in for a radical into the radical."""
    for atom in mol.GetAtoms():
        cation_near = any(other.GetFormalCharge() > 0 for other in atom.GetNeighbors())
        if atom.GetFormalCharge() < 0 and not cation_near:
            atom.SetFormalCharge(atom.GetFormalCharge() + 1)
            return


def _with_bonds(
    mol: Chem.Mol, *, charge: int, multiplicity: int, name: str, start: str
) -> Molecule:
    bonds = [
        (*sorted((b.GetBeginAtomIdx(), b.GetEndAtomIdx())), b.GetBondTypeAsDouble())
        for b in mol.GetBonds()
    ]
    molecule = Molecule(
        _numbers(mol),
        mol.GetConformer().GetPositions(),
        charge=charge,
        multiplicity=multiplicity,
        bonds=tuple(Bond(int(i), int(j), order) for i, j, order in sorted(bonds)),
        formal_charges=tuple(a.GetFormalCharge() for a in mol.GetAtoms()),
        name=name,
        start=start,
    )
    with rdBase.BlockLogs():
        smiles = Chem.MolToSmiles(Chem.RemoveHs(molecule.to_rdkit(), sanitize=False))
    return replace(molecule, smiles=smiles, name=name or smiles)
