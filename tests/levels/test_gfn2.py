from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.calculators.test import calculate_numerical_forces
from ase.units import Hartree

from diffrelax.levels import get_calculator
from diffrelax.molecule import Molecule


@pytest.mark.parametrize("smiles", ["CC=O", "[CH3]", "C[NH3+]"])
def test_forces_are_the_negative_gradient(smiles: str) -> None:
    molecule = Molecule.from_smiles(smiles)
    atoms = molecule.to_atoms()
    atoms.calc = get_calculator("gfn2-xtb", molecule, accuracy=0.01)
    atoms.positions += np.random.default_rng(1).normal(0, 0.05, atoms.positions.shape)
    numerical = calculate_numerical_forces(atoms, eps=1e-3)
    assert np.abs(numerical).max() > 0.5
    np.testing.assert_allclose(atoms.get_forces(), numerical, atol=2e-3)


def test_element_beyond_radon_is_refused() -> None:
    positions = 2.0 * np.vstack([np.zeros(3), np.eye(3), -np.eye(3)])
    with pytest.raises(ValueError, match=r"F6U.*H to Rn"):
        get_calculator("gfn2-xtb", Molecule(np.array([92] + [9] * 6), positions))


@pytest.mark.skipif(shutil.which("xtb") is None, reason="needs the xtb program")
@pytest.mark.parametrize("smiles", ["CC(=O)OC", "C[NH3+]", "[CH3]"])
def test_energy_is_that_of_the_xtb_program(smiles: str, tmp_path: Path) -> None:
    molecule = Molecule.from_smiles(smiles)
    ase.io.write(tmp_path / "start.xyz", molecule.to_atoms(), format="xyz", fmt="%.10f")
    unpaired = molecule.multiplicity - 1
    command = f"xtb start.xyz --gfn 2 --chrg {molecule.charge} --uhf {unpaired}"
    done = subprocess.run(command.split(), cwd=tmp_path, capture_output=True, text=True, check=True)
    total = re.search(r"TOTAL ENERGY\s+(\S+) Eh", done.stdout)
    assert total
    energy = get_calculator("gfn2-xtb", molecule).get_potential_energy(molecule.to_atoms())
    assert energy == pytest.approx(float(total[1]) * Hartree, abs=1e-4)
