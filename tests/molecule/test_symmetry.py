"""Symmetry numbers of rigid molecules follow from their point groups."""

from __future__ import annotations

import numpy as np
import pytest
from rdkit.Chem import rdMolTransforms

from diffrelax.molecule import Molecule
from diffrelax.molecule.symmetry import find_conformer_symmetry, find_symmetry

RIGID = {
    "O": (2, False),  # C2v
    "N": (3, False),  # C3v
    "C": (12, False),  # Td
    "CC": (6, False),  # D3d
    "C=C": (4, False),  # D2h
    "C=C=C": (4, False),  # D2d
    "c1ccccc1": (12, False),  # D6h
    "C1CC1": (6, False),  # D3h
    "CC(C)(C)C": (12, False),  # Td
    "C12C3C4C1C5C2C3C45": (24, False),  # Oh
    "CO": (1, False),  # Cs
    "CF": (3, False),  # C3v
    "O=C=O": (2, False),  # linear, with a centre
    "C#CC#N": (1, False),  # linear, without one
    "C#CC#C": (2, False),
    "[H][H]": (2, False),
    "OO": (2, True),  # C2
    "C[C@H](F)O": (1, True),  # C1
    "[He]": (1, False),
}


@pytest.mark.parametrize("smiles", RIGID)
def test_symmetry_of_known_molecules(smiles: str) -> None:
    molecule = Molecule.from_smiles(smiles)
    assert find_symmetry(molecule) == RIGID[smiles]


@pytest.mark.parametrize("smiles", ["CC", "OO", "c1ccccc1", "O=C=O"])
def test_symmetry_depends_on_neither_order_nor_place_nor_small_noise(smiles: str) -> None:
    molecule = Molecule.from_smiles(smiles)
    rng = np.random.default_rng(3)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    order = rng.permutation(molecule.n_atoms)
    noise = rng.normal(scale=0.01, size=molecule.positions.shape)
    moved = Molecule(molecule.numbers[order], ((molecule.positions + noise) @ turn)[order] + 7)
    assert find_symmetry(moved) == RIGID[smiles]


@pytest.mark.parametrize(
    ("torsions", "symmetry"),
    [
        ((180, 180), (2, False)),  # C2v
        ((180, 60), (1, True)),  # C1
        ((60, 60), (2, True)),  # C2
        ((60, -60), (1, False)),  # Cs
    ],
)
def test_symmetry_of_the_conformers_of_pentane(torsions, symmetry) -> None:
    assert find_symmetry(_chain("CCCCC", torsions)) == symmetry


def _chain(smiles: str, torsions: tuple[int, int]) -> Molecule:
    molecule = Molecule.from_smiles(smiles)
    conformer = molecule.to_rdkit().GetConformer()
    for atoms, degrees in zip(((0, 1, 2, 3), (1, 2, 3, 4)), torsions, strict=True):
        rdMolTransforms.SetDihedralDeg(conformer, *atoms, degrees)
    return molecule.with_positions(conformer.GetPositions())


@pytest.mark.parametrize("turn", [0, 17, 30, 75])
@pytest.mark.parametrize(
    ("smiles", "symmetry"),
    [
        ("Cc1ccccc1", (2, False)),  # C2v
        ("CC#CC(F)F", (1, False)),  # Cs
        ("CC#C[C@H](F)Cl", (1, True)),
        ("CC(F)(F)F", (3, False)),  # C3v
    ],
)
def test_a_conformer_is_as_symmetric_however_its_methyl_stands(
    smiles: str, symmetry: tuple[int, bool], turn: float
) -> None:
    molecule = Molecule.from_smiles(smiles)
    atoms = molecule.to_atoms()
    hydrogens = molecule.numbers == 1
    near = hydrogens & (atoms.get_all_distances()[0] < 1.2)
    atoms.rotate(turn, atoms.positions[1] - atoms.positions[0], center=atoms.positions[0])
    turned = molecule.positions.copy()
    turned[near] = atoms.positions[near]
    assert find_conformer_symmetry(molecule.with_positions(turned)) == symmetry


@pytest.mark.parametrize(
    ("smiles", "torsions", "symmetry"),
    [
        ("CCOCC", (180, 180), (2, False)),
        ("CCOCC", (70, 70), (2, True)),
        ("CCOCC(F)(F)F", (180, 180), (1, False)),
        ("CCOCC(F)(F)F", (70, 70), (1, True)),
        ("CCNCC(F)(F)F", (180, 180), (1, True)),  # a pyramid
    ],
)
def test_a_methyl_is_no_trifluoromethyl_group(smiles, torsions, symmetry) -> None:
    assert find_conformer_symmetry(_chain(smiles, torsions)) == symmetry


@pytest.mark.parametrize("smiles", ["CC", "CO", "C", "c1ccccc1", "OO"])
def test_small_conformers_have_the_symmetry_of_all_atoms(smiles: str) -> None:
    assert find_conformer_symmetry(Molecule.from_smiles(smiles)) == RIGID[smiles]


def test_isotopes_count_for_a_molecule_and_not_for_its_conformers() -> None:
    """Those that differ by isotopes alone are one conformer, so its weight is that of all."""
    plain, labelled = (Molecule.from_smiles(smiles) for smiles in ("OO", "[18OH]O"))
    assert find_symmetry(plain).number == 2 and find_symmetry(labelled).number == 1
    assert find_conformer_symmetry(plain).number == find_conformer_symmetry(labelled).number == 2
