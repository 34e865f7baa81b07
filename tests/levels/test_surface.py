from __future__ import annotations

import numpy as np
import pytest

from diffrelax.levels import Surface, get_calculator
from diffrelax.molecule import Molecule
from diffrelax.sampling.boltzmann.springs import expanded, reduced


@pytest.mark.parametrize("level", ["mmff94", "gfn2-xtb"])
def test_energies_are_those_of_the_calculator(level):
    molecule = Molecule.from_smiles("CO")
    shaken = molecule.positions + 0.05 * np.random.default_rng(0).normal(size=(3, 6, 3))
    surface = Surface(molecule, level)
    atoms = molecule.to_atoms()
    atoms.calc = get_calculator(level, molecule)
    expected = []
    for positions in shaken:
        atoms.positions = positions
        expected.append(atoms.get_potential_energy())
    np.testing.assert_allclose(surface.energies(shaken), expected, atol=1e-6)
    assert surface.n_calls == 3


def test_a_geometry_that_fails_has_an_infinite_energy_and_spares_the_others():
    molecule = Molecule.from_smiles("CO")
    heap = np.zeros_like(molecule.positions)
    surface = Surface(molecule, "gfn2-xtb")
    energies = surface.energies(np.stack([heap, molecule.positions]))
    assert np.isposinf(energies[0])
    assert np.isfinite(energies[1])
    assert (surface.n_calls, surface.n_failed) == (2, 1)


def test_the_hessian_is_the_curvature_of_the_energies():
    molecule = Molecule.from_smiles("CCO")
    surface = Surface(molecule, "mmff94")
    here = reduced(molecule.positions[None])[0]
    step = 0.005 * np.random.default_rng(0).normal(size=here.size)
    up, middle, down = surface.energies(expanded(np.stack([here + step, here, here - step])))
    curvature = step @ surface.hessian(molecule.positions) @ step
    assert up + down - 2 * middle == pytest.approx(curvature, rel=0.02)
