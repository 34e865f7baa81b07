"""The fitted force field: how well it fits, and what it must not depend on."""

from __future__ import annotations

import numpy as np
import pytest
from ase.units import kB

from diffrelax.levels import Surface
from diffrelax.molecule import Molecule
from diffrelax.sampling.boltzmann.surrogate import RIDGE, Recorded, Surrogate, ridge_regression
from diffrelax.sampling.boltzmann.terms import Terms

THERMAL = kB * 300


def shaken(molecule: Molecule, n: int, seed: int = 0) -> np.ndarray:
    """Displace atoms by about as much as heat does."""
    rng = np.random.default_rng(seed)
    return molecule.positions + 0.02 * rng.normal(size=(n, molecule.n_atoms, 3))


def recorded(energy, positions: np.ndarray) -> Recorded:
    known = Recorded(energy)
    known(positions)
    return known


def test_an_energy_that_is_linear_in_the_terms_is_found_again():
    molecule = Molecule.from_smiles("CCO")
    terms = Terms.of(molecule)
    parameters = np.random.default_rng(1).normal(size=terms.parameters.max() + 1)

    def energy(positions):
        return 0.3 * terms(positions) @ parameters[terms.parameters] - 5.0

    found = Surrogate.fit(molecule, recorded(energy, shaken(molecule, 400)), THERMAL)
    held_out = shaken(molecule, 50, seed=2)
    np.testing.assert_allclose(found(held_out), energy(held_out), rtol=0, atol=0.01 * THERMAL)


@pytest.mark.parametrize("smiles", ["CCCO", "CC#C", "CC(N)=O", "C1CC1"])
def test_mmff94_is_fitted_to_a_part_of_the_thermal_energy(smiles):
    molecule = Molecule.from_smiles(smiles)
    surface = Surface(molecule, "mmff94")
    found = Surrogate.fit(molecule, recorded(surface.energies, shaken(molecule, 1000)), THERMAL)
    held_out = shaken(molecule, 100, seed=2)
    missed = found(held_out) - surface.energies(held_out)
    assert missed.std() < 0.3 * THERMAL
    assert surface.energies(held_out).std() > 2 * THERMAL


def test_turned_mirrored_and_relabelled_geometries_have_the_same_energy():
    molecule = Molecule.from_smiles("CCO")
    surface = Surface(molecule, "mmff94")
    found = Surrogate.fit(molecule, recorded(surface.energies, shaken(molecule, 300)), THERMAL)
    x = shaken(molecule, 5, seed=2)
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    np.testing.assert_allclose(found(x @ turn + 1.0), found(x), atol=1e-9)
    np.testing.assert_allclose(found(x * [1, 1, -1]), found(x), atol=1e-9)
    hydrogens = [b.end for b in molecule.bonds if b.begin == 0 and molecule.numbers[b.end] == 1]
    order = np.arange(molecule.n_atoms)
    order[hydrogens] = np.roll(hydrogens, 1)
    np.testing.assert_allclose(found(x[:, order]), found(x), atol=1e-9)


def test_clashes_and_failures_are_not_fitted():
    molecule = Molecule.from_smiles("CO")
    surface = Surface(molecule, "mmff94")
    known = recorded(surface.energies, shaken(molecule, 300))
    alone = Surrogate.fit(molecule, known, THERMAL)
    known.positions.append(molecule.positions[None] * np.array([0.3, 1.0])[:, None, None])
    known.energies.append(np.array([500.0, np.inf]))
    x = shaken(molecule, 5, seed=2)
    np.testing.assert_array_equal(Surrogate.fit(molecule, known, THERMAL)(x), alone(x))


@pytest.mark.parametrize("shape", [(40, 9), (9, 40), (20, 20)])
def test_the_least_sum_is_found_whether_rows_or_columns_are_fewer(shape):
    """At it, the gradient of the sum is zero."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=shape), rng.normal(size=shape[0])
    w = ridge_regression(x, y)
    assert w.shape == (shape[1],)
    np.testing.assert_allclose(x.T @ (x @ w - y) + RIDGE * w, 0, atol=1e-8)
