"""Where the answer is known, the chains give it within their own error bars."""

from __future__ import annotations

import numpy as np
import pytest
from ase.units import kB

from diffrelax.levels import Surface
from diffrelax.molecule import Molecule
from diffrelax.molecule.torsions import Rotors, torsion_angles
from diffrelax.sampling.boltzmann import sample_boltzmann
from diffrelax.sampling.boltzmann.chains import Chains, Target
from diffrelax.sampling.boltzmann.diagnostics import Diagnostics
from diffrelax.sampling.boltzmann.kernels import CartesianStep, ShapedStep, TorsionJump
from diffrelax.sampling.boltzmann.mixtures import Mixture, run, tune
from diffrelax.sampling.boltzmann.springs import Springs, expanded
from diffrelax.sampling.boltzmann.surrogate import SurrogateWalk

from .toys import N_ATOMS, THERMAL, DoubleWell, Harmonic


def sample(toy, kernels, n_draws=1500, seed=0):
    """Run 40 chains from the minima; return the trajectory."""
    rng = np.random.default_rng(seed)
    start = expanded(toy.minima[np.arange(40) % len(toy.minima)])
    mixture = Mixture(kernels, [1 / len(kernels)] * len(kernels))
    target = Target(toy, THERMAL)
    chains = Chains.start(start, toy)
    chains, mixture = tune(chains, mixture, target, 400, rng, progress=lambda: None)
    return run(chains, mixture, target, n_draws, 2, rng, progress=lambda: None)


def mean_and_error(values):
    ess = Diagnostics.of({"x": values}).ess["x"]
    return values.mean(), values.std() / np.sqrt(ess)


PAIRS = np.argwhere(np.triu(np.ones((N_ATOMS, N_ATOMS)), 1))
KERNELS = {
    "shaped": [ShapedStep(Springs(PAIRS, np.ones(len(PAIRS), dtype=int)), THERMAL, 0.5)],
    "cartesian": [CartesianStep(0.05)],
}
KERNELS["mixture"] = [*KERNELS["shaped"], *KERNELS["cartesian"]]


@pytest.mark.parametrize("toy", [Harmonic(), DoubleWell()], ids=["harmonic", "double well"])
@pytest.mark.parametrize("which", KERNELS)
def test_chains_have_the_exact_mean_energy(toy, which):
    path = sample(toy, KERNELS[which])
    mean, error = mean_and_error(path.energies)
    assert error < 0.03 * toy.mean_energy
    assert abs(mean - toy.mean_energy) < 3.5 * error


@pytest.mark.parametrize("which", ["cartesian", "mixture"])  # shaped steps alone are slow
def test_chains_have_the_exact_population_of_a_well(which):
    toy = DoubleWell()
    path = sample(toy, KERNELS[which])
    in_right = np.stack([toy.coordinate(p) > 0 for p in path.positions]).astype(float)
    mean, error = mean_and_error(in_right)
    assert 0.55 < toy.right < 0.75
    assert error < 0.03
    assert abs(mean - toy.right) < 3.5 * error


@pytest.mark.parametrize("which", ["shaped step", "surrogate walk"])
def test_water_has_the_mean_energy_of_quadrature(which):
    """Each kind of move alone is exact."""
    water = Molecule.from_smiles("O")
    surface, thermal = Surface(water, "mmff94"), kB * 300
    rng = np.random.default_rng(0)
    target = Target(surface.energies, thermal)
    chains = Chains.start(np.repeat(water.positions[None], 150, axis=0), surface.energies)
    if which == "shaped step":
        kernel = ShapedStep(Springs.of(water), thermal, 0.95)
    else:  # a surrogate that is 40% too hot
        hot = Target(surface.energies, 1.4 * thermal)
        kernel = SurrogateWalk(hot, Mixture([CartesianStep(0.04)], [1]), 5)
    n_draws = 160 if which == "shaped step" else 80  # whose draws are less independent
    path = run(chains, Mixture([kernel], [1]), target, n_draws, 1, rng, progress=lambda: None)
    mean, error = mean_and_error(path.energies[20:])
    apart = path.energies[20:].mean(axis=0).std(ddof=1) / len(chains) ** 0.5
    assert error == pytest.approx(apart, rel=0.3)  # the error that independent chains show
    assert error < 0.03 * mean
    assert abs(mean - quadrature(surface, thermal)) < 3.5 * error


@pytest.mark.slow
def test_samples_are_those_of_the_temperature_that_is_asked_for():
    found = sample_boltzmann("O", 3000, n_chains=30, temperature=600.0)
    mean, error = mean_and_error(found.energies.reshape(-1, 30))
    assert error < 0.05 * mean
    exact = quadrature(Surface(found.molecule, "mmff94"), kB * 600)
    assert abs(mean - exact) < 3.5 * error


def quadrature(surface, thermal):
    """Integrate over the two bonds and the angle of water, with their volume element."""
    lengths, angles = np.linspace(0.78, 1.2, 41), np.radians(np.linspace(70, 140, 41))
    a, b, theta = np.meshgrid(lengths, lengths, angles, indexing="ij")
    zero = np.zeros_like(a)
    first = np.stack([a, zero, zero], -1)
    second = np.stack([b * np.cos(theta), b * np.sin(theta), zero], -1)
    oxygen = np.zeros_like(first)
    energies = surface.energies(np.stack([oxygen, first, second], -2).reshape(-1, 3, 3))
    weights = np.exp(-energies / thermal) * (a**2 * b**2 * np.sin(theta)).ravel()
    return (energies * weights).sum() / weights.sum()


def test_torsion_moves_sample_the_density_of_the_torsions():
    """Rigid bonds and angles leave two coordinates, with a density known up to its integral."""
    sides = np.array([[0, 0, 0, 1, 1], [0, 0, 0, 0, 1]], dtype=bool)
    quads = np.array([[0, 1, 2, 3], [1, 2, 3, 4]])
    rotors = Rotors(quads, sides)
    start = np.array(
        [[1.0, 0.3, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.4], [0.9, 0.2, 1.8], [1.1, 1.3, 2.0]]
    )

    def profile(phi):
        single = (0.04 * (1 + np.cos(3 * phi)) - 0.02 * np.cos(phi)).sum(0)
        return single + 0.03 * np.cos(phi[0] - phi[1])

    def energy(positions):
        return profile(torsion_angles(positions, quads))

    rng = np.random.default_rng(0)
    mixture = Mixture([TorsionJump(rotors)], [1])
    chains = Chains.start(np.repeat(start[None], 40, axis=0), energy)
    path = run(chains, mixture, Target(energy, THERMAL), 1500, 2, rng, progress=lambda: None)
    phi = torsion_angles(path.positions, quads)[:, 50:]
    grid = np.stack(np.meshgrid(*[np.linspace(-np.pi, np.pi, 400, endpoint=False)] * 2))
    weights = np.exp(-profile(grid) / THERMAL)
    for observable in (
        lambda x: np.cos(x[0]),
        lambda x: np.cos(x[0] - x[1]),
        lambda x: (np.abs(x[1]) < 2 * np.pi / 3) * 1.0,
        profile,
    ):
        mean, error = mean_and_error(observable(phi))
        exact = (observable(grid) * weights).sum() / weights.sum()
        assert error < 0.02
        assert abs(mean - exact) < 3.5 * error
    assert set(path.acceptance) == {"torsion jump"}
