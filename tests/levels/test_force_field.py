from __future__ import annotations

import numpy as np
import pytest
from ase.calculators.test import calculate_numerical_forces
from rdkit.Chem import AllChem

from diffrelax.levels import get_calculator
from diffrelax.molecule import Molecule
from diffrelax.molecule.torsions import Rotors, torsion_angles


def displaced(smiles: str) -> Molecule:
    molecule = Molecule.from_smiles(smiles)
    noise = np.random.default_rng(1).normal(0, 0.05, molecule.positions.shape)
    return molecule.with_positions(molecule.positions + noise)


@pytest.mark.parametrize("level", ["mmff94", "uff"])
@pytest.mark.parametrize("smiles", ["CC(=O)N", "c1ccoc1", "[NH3+]CC(=O)[O-]"])
def test_forces_are_the_negative_gradient(level: str, smiles: str) -> None:
    molecule = displaced(smiles)
    atoms = molecule.to_atoms()
    atoms.calc = get_calculator(level, molecule)
    numerical = calculate_numerical_forces(atoms, eps=1e-5)
    assert np.abs(numerical).max() > 0.1
    np.testing.assert_allclose(atoms.get_forces(), numerical, atol=1e-4)


def test_mmff94_energy_is_rdkits() -> None:
    molecule = displaced("CC(=O)OC")
    mol = molecule.to_rdkit()
    field = AllChem.MMFFGetMoleculeForceField(mol, AllChem.MMFFGetMoleculeProperties(mol))
    energy = get_calculator("mmff94", molecule).get_potential_energy(molecule.to_atoms())
    assert energy == pytest.approx(field.CalcEnergy() * 0.0433641, rel=1e-5)


def test_energy_follows_the_positions() -> None:
    molecule = Molecule.from_smiles("CCO")
    calculator = get_calculator("mmff94", molecule)
    atoms = molecule.to_atoms()
    start = calculator.get_potential_energy(atoms)
    atoms.positions[0] += 0.1
    assert calculator.get_potential_energy(atoms) > start + 0.1
    atoms.positions[0] -= 0.1
    assert calculator.get_potential_energy(atoms) == pytest.approx(start, abs=1e-9)


@pytest.mark.parametrize("level", ["mmff94", "uff"])
def test_minimiser_leaves_held_torsions_where_they_are(level: str) -> None:
    butane = displaced("CCCC")
    rotors = Rotors.of(butane)
    chain = [i for i, (j, k) in enumerate(rotors.bonds.tolist()) if {j, k} == {1, 2}]
    angles = np.pi / 3 - torsion_angles(butane.positions, rotors.torsions[chain])
    (turned,) = rotors.turn(butane.positions[None], np.array(chain), angles)  # onto gauche
    (steep,) = rotors.turn(turned[None], np.array(chain), np.radians([-50.0]))  # nearly eclipsed
    calculator = get_calculator(level, butane)
    held = calculator.minimise_held(steep, 1000, rotors.torsions.tolist())
    free = calculator.minimise_held(held, 1000)

    def degrees(positions: np.ndarray) -> float:
        return np.degrees(torsion_angles(positions, rotors.torsions[chain]))[0]

    assert abs(degrees(held) - degrees(steep)) < 11
    assert 55 < degrees(free) < 75
    assert calculator.energy(free) < calculator.energy(held) < calculator.energy(steep)


def test_molecule_without_parameters_or_bonds_is_refused() -> None:
    with pytest.raises(ValueError, match="mmff94 has no parameters for OB"):
        get_calculator("mmff94", Molecule.from_smiles("OB(O)O", name="OB(O)O"))
    water = Molecule.from_smiles("O")
    with pytest.raises(ValueError, match="needs bonds"):
        get_calculator("uff", Molecule(water.numbers, water.positions))
