from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from diffrelax.molecule import Molecule
from diffrelax.molecule.torsions import Rotors, torsion_angles, watched_torsions
from diffrelax.sampling.boltzmann.chains import Chains, Target, metropolis_step
from diffrelax.sampling.boltzmann.kernels import CartesianStep, ShapedStep, TorsionJump
from diffrelax.sampling.boltzmann.mixtures import Mixture
from diffrelax.sampling.boltzmann.springs import BACKGROUND, Springs, expanded, reduced
from diffrelax.sampling.boltzmann.surrogate import SurrogateWalk

from .toys import N_ATOMS, THERMAL, D, DoubleWell, Harmonic

ALL_PAIRS = np.argwhere(np.triu(np.ones((N_ATOMS, N_ATOMS)), 1))
SPRINGS = Springs(ALL_PAIRS, np.array([1, 2, 3, 1, 2, 1]))
WELL = DoubleWell()
TARGET = Target(WELL, THERMAL)
CHAIN = Rotors(np.array([[0, 1, 2, 3]]), np.array([[False, False, False, True]]))
KERNELS = {
    "cartesian": CartesianStep(0.03),
    "shaped step": ShapedStep(SPRINGS, THERMAL, 0.4),
    "torsion jump": TorsionJump(CHAIN, anywhere=1.0),
    "surrogate walk": SurrogateWalk(
        Target(DoubleWell(tilt=-0.1, stiffness=45.0), THERMAL),
        Mixture([CartesianStep(0.03)], [1]),
        8,
    ),
}


def test_the_ratio_of_a_shaped_step_is_that_of_two_gaussians():
    rng = np.random.default_rng(0)
    chains = Chains.start(WELL.sample(6, rng), WELL)
    proposal = ShapedStep(SPRINGS, THERMAL, 0.6).propose(chains, rng)

    def log_density(to, start):
        covariance = 0.6**2 * THERMAL * np.linalg.inv(SPRINGS.hessian(start[None])[0])
        mean = reduced(start[None])[0]
        return multivariate_normal.logpdf(reduced(to[None])[0], mean, covariance)

    expected = [
        log_density(x, y) - log_density(y, x)
        for x, y in zip(chains.positions, proposal.positions, strict=True)
    ]
    np.testing.assert_allclose(proposal.log_ratio, expected, rtol=1e-8, atol=1e-8)
    assert np.abs(proposal.log_ratio).max() > 0.1


def test_proposals_of_a_shaped_step_have_its_covariance():
    rng = np.random.default_rng(0)
    start = WELL.sample(1, rng)
    chains = Chains.start(np.repeat(start, 40_000, axis=0), WELL)
    y = reduced(ShapedStep(SPRINGS, THERMAL, 0.6).propose(chains, rng).positions)
    covariance = 0.6**2 * THERMAL * np.linalg.inv(SPRINGS.hessian(start)[0])
    spread = np.sqrt(np.diag(covariance))
    assert np.abs((y.mean(0) - reduced(start)[0]) / spread).max() < 5 / np.sqrt(40_000)
    scaled = (np.cov(y.T) - covariance) / np.outer(spread, spread)
    assert np.abs(scaled).max() < 7 / np.sqrt(40_000)


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_keeps_detailed_balance(name):
    """In equilibrium, moves from one part of space to another are as frequent as back."""
    rng = np.random.default_rng(3)
    n = 60_000
    before = Chains.start(WELL.sample(n, rng), WELL)
    after, accepted = metropolis_step(before, KERNELS[name], TARGET, rng)
    assert accepted.mean() > 0.01
    x, y = (WELL.coordinate(c.positions) for c in (before, after))
    features = [(x, y), (x**2, y**2), (before.energies, after.energies), (x > 0, y > 0)]
    for i, (f_x, f_y) in enumerate(features):
        error = f_x.std() * 2 / np.sqrt(n)
        assert f_y.mean() == pytest.approx(f_x.mean(), abs=4 * error)  # stationary
        for g_x, g_y in features[:i]:
            flux = f_x * 1.0 * g_y - g_x * 1.0 * f_y  # reversible
            assert abs(flux.mean()) < 4 * flux.std() / np.sqrt(n)


def test_without_its_ratio_the_shaped_step_fails_that_test():
    rng = np.random.default_rng(3)
    chains = Chains.start(WELL.sample(60_000, rng), WELL)
    proposal = KERNELS["shaped step"].propose(chains, rng)
    change = WELL(proposal.positions).mean() - chains.energies.mean()
    assert abs(change) > 20 * chains.energies.std() / np.sqrt(60_000)


def test_energies_that_are_not_finite_are_never_accepted():
    rng = np.random.default_rng(0)
    toy = Harmonic()
    chains = Chains.start(toy.sample(20, rng), toy)
    for bad in (np.inf, np.nan):
        target = Target(lambda p, bad=bad: np.full(len(p), bad), THERMAL)
        _, accepted = metropolis_step(chains, CartesianStep(1e-6), target, rng)
        assert not accepted.any()


def test_springs_have_the_hessian_of_springs_and_turn_with_the_molecule():
    positions = WELL.sample(1, np.random.default_rng(1))
    i, j = SPRINGS.pairs.T
    rest = np.linalg.norm(positions[0, i] - positions[0, j], axis=1)

    def energy(x):
        p = expanded(x[None])[0]
        lengths = np.linalg.norm(p[i] - p[j], axis=1)
        return 0.5 * (SPRINGS.constants * (lengths - rest) ** 2).sum()

    x, h = reduced(positions)[0], 1e-3 * np.eye(D)
    numeric = [
        [
            (energy(x + a + b) - energy(x + a - b) - energy(x - a + b) + energy(x - a - b)) / 4e-6
            for a in h
        ]
        for b in h
    ]
    hessian = SPRINGS.hessian(positions)[0]
    np.testing.assert_allclose(hessian, numeric + BACKGROUND * np.eye(D), atol=2e-2)
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    big = np.kron(np.eye(N_ATOMS - 1), turn)
    np.testing.assert_allclose(
        SPRINGS.hessian(positions @ turn.T)[0], big @ hessian @ big.T, atol=1e-9
    )


def test_reduced_coordinates_keep_distances_and_come_back():
    positions = Harmonic().sample(5, np.random.default_rng(0))
    x = reduced(positions + np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(expanded(x), positions, atol=1e-12)
    np.testing.assert_allclose((x**2).sum(1), (positions**2).sum((1, 2)))


@pytest.mark.parametrize(
    ("smiles", "n"),
    [
        ("CCCC", 3),
        ("CCCO", 3),
        ("OCCO", 3),
        ("CCC", 2),
        ("C", 0),
        ("C1CC1", 0),
        ("CC#N", 0),  # nothing turns about a linear end
        ("C=C", 0),
        ("CNC(C)=O", 3),
        ("Cc1ccco1", 1),
        ("CC#CC", 1),
        ("C#CCO", 1),
        ("OCC#CC#CCO", 3),
        ("CC=C=CC", 2),
    ],
)
def test_rotors_are_the_single_bonds_that_can_turn(smiles, n):
    rotors = Rotors.of(Molecule.from_smiles(smiles))
    assert len(rotors) == n
    assert all(
        side[k] and not side[j] for (j, k), side in zip(rotors.bonds, rotors.sides, strict=True)
    )


@pytest.mark.parametrize("smiles", ["OCC#CCO", "O=CC#CCN"])
def test_a_turn_across_an_alkyne_is_watched(smiles):
    molecule = Molecule.from_smiles(smiles)
    rotors, quads = Rotors.of(molecule), watched_torsions(molecule)
    ends = (1, 4)
    assert ends in [(j, k) for j, k in rotors.bonds.tolist()]
    assert ends in [(j, k) for _, j, k, _ in quads.tolist()]
    chosen = np.flatnonzero((rotors.bonds == ends).all(axis=1))
    turned = rotors.turn(molecule.positions[None], chosen, np.array([1.2]))[0]
    across = quads[(quads[:, 1:3] == ends).all(axis=1)]
    change = torsion_angles(turned, across) - torsion_angles(molecule.positions, across)
    assert np.cos(change - 1.2) == pytest.approx(1.0)
    lengths = [
        [np.linalg.norm(xyz[bond.begin] - xyz[bond.end]) for bond in molecule.bonds]
        for xyz in (molecule.positions, turned)
    ]
    np.testing.assert_allclose(*lengths, atol=1e-3)


def test_a_turn_changes_one_torsion_by_the_angle_and_no_bond_or_angle():
    molecule = Molecule.from_smiles("CCC(C)O")
    rotors, quads = Rotors.of(molecule), watched_torsions(molecule)
    start = np.repeat(molecule.positions[None], len(rotors), axis=0)
    turned = rotors.turn(start, np.arange(len(rotors)), np.full(len(rotors), 0.7))
    turns = torsion_angles(turned, quads) - torsion_angles(start, quads)
    turns = (turns + np.pi) % (2 * np.pi) - np.pi
    for (j, k), change in zip(rotors.bonds, turns.T, strict=True):
        own = (quads[:, 1] == j) & (quads[:, 2] == k)
        np.testing.assert_allclose(change, np.where(own, 0.7, 0.0), atol=1e-9)
    springs = Springs.of(molecule)
    i, j = springs.pairs[springs.n_bonds < 3].T  # bonds and 1–3 distances
    before, after = (np.linalg.norm(p[:, i] - p[:, j], axis=2) for p in (start, turned))
    np.testing.assert_allclose(after, before, atol=1e-12)


def test_a_turn_keeps_volumes():
    x = reduced(WELL.sample(1, np.random.default_rng(0)))[0]

    def turn(y):
        p = CHAIN.turn(expanded(y[None]), np.array([0]), np.array([1.1]))
        return reduced(p)[0]

    h = 1e-6 * np.eye(D)
    jacobian = np.stack([(turn(x + a) - turn(x - a)) / 2e-6 for a in h])
    assert np.linalg.det(jacobian) == pytest.approx(1.0, abs=1e-6)
