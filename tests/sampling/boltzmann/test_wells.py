"""Jumps between wells: exact where the answer is known, and as other moves where it is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase.units import kB

from diffrelax import sample_boltzmann, sample_conformers
from diffrelax.levels import Surface
from diffrelax.molecule import Molecule
from diffrelax.molecule.torsions import Rotors, torsion_angles
from diffrelax.sampling.boltzmann.chains import Chains, Target, metropolis_step
from diffrelax.sampling.boltzmann.diagnostics import Diagnostics
from diffrelax.sampling.boltzmann.images import images
from diffrelax.sampling.boltzmann.internals import InternalCoordinates
from diffrelax.sampling.boltzmann.kernels import CartesianStep, TorsionJump
from diffrelax.sampling.boltzmann.mixtures import Mixture, run, tune
from diffrelax.sampling.boltzmann.sampling import embed_starts
from diffrelax.sampling.boltzmann.springs import reduced
from diffrelax.sampling.boltzmann.wells import WellJump, Wells

THERMAL = 0.025  # eV
CHAIN = InternalCoordinates(
    np.array([[1, -1, -1, -1], [0, 1, -1, -1], [2, 1, 0, -1], [3, 2, 1, 0]])
)
LENGTHS, ANGLE, STIFF = (1.1, 1.5, 1.2), 1.9, 20.0  # Å, radians, eV/Å²
TORSIONS = np.array([-1.2, 2.0])
ANGLES = np.linspace(0.8, 3.0, 4001)
TURNS = np.linspace(-np.pi, np.pi, 20_001)[:-1]


class TwoWells:
    """Four atoms in a chain, whose angles are softer in one of the wells of the torsion.

    20 kT lie between the wells.
    """

    def stiffness(self, turn: np.ndarray) -> np.ndarray:
        return np.where(np.abs(turn - 2.0) < 1.5, 1.0, 3.0)

    def profile(self, turn: np.ndarray) -> np.ndarray:
        away = (turn[..., None] - TORSIONS + np.pi) % (2 * np.pi) - np.pi
        heights = np.minimum(0.5 * np.array([1.0, 2.0]) * away**2, 0.5) + np.array([0.0, 0.01])
        return heights.min(axis=-1)

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        lengths, angles, turns = np.split(CHAIN.values(positions), [3, 5], axis=1)
        bent = ((angles - ANGLE) ** 2).sum(axis=1) * self.stiffness(turns[:, 0])
        return (
            0.5 * STIFF * ((lengths - LENGTHS) ** 2).sum(axis=1)
            + 0.5 * bent
            + self.profile(turns[:, 0])
        )

    def angle_weights(self, stiffness: float) -> np.ndarray:
        return np.sin(ANGLES) * np.exp(-0.5 * stiffness * (ANGLES - ANGLE) ** 2 / THERMAL)

    def turn_weights(self) -> np.ndarray:
        """Integrate lengths and angles out, with their volume elements."""
        widths = {k: self.angle_weights(k).sum() ** 2 for k in (1.0, 3.0)}
        weights = np.exp(-self.profile(TURNS) / THERMAL)
        weights = weights * np.vectorize(widths.get)(self.stiffness(TURNS))
        return weights / weights.sum()

    @property
    def right(self) -> float:
        return float(self.turn_weights()[np.abs(TURNS - 2.0) < 1.5].sum())

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        grid = np.linspace(0.8, 1.8, 4001)
        lengths = [
            rng.choice(
                grid, n, p=_shares(grid**2 * np.exp(-0.5 * STIFF * (grid - r) ** 2 / THERMAL))
            )
            for r in LENGTHS
        ]
        turns = rng.choice(TURNS, n, p=self.turn_weights())
        soft = self.stiffness(turns) == 1.0
        angles = [
            np.where(
                soft,
                rng.choice(ANGLES, n, p=_shares(self.angle_weights(1.0))),
                rng.choice(ANGLES, n, p=_shares(self.angle_weights(3.0))),
            )
            for _ in range(2)
        ]
        values = np.stack([*lengths, *angles, turns], axis=1)
        like = np.repeat(rng.normal(size=(1, 4, 3)), n, axis=0)
        return CHAIN.positions(values, like)


def _shares(weights):
    return weights / weights.sum()


TOY = TwoWells()
SPREAD = np.array([[STIFF] * 3 + [3.0] * 2 + [1.0], [STIFF] * 3 + [1.0] * 2 + [2.0]])
WELLS = Wells(  # one of them too wide and the weights far from right
    CHAIN,
    np.array([np.inf] * 5 + [2 * np.pi]),
    np.array([[*LENGTHS, ANGLE, ANGLE, turn] for turn in TORSIONS]),
    np.array([1.0, 1.2])[:, None, None] * np.stack([np.diag((THERMAL / k) ** 0.5) for k in SPREAD]),
    np.array([0.6, 0.4]),
)
JUMP = WellJump(WELLS)


def test_jumps_give_wells_their_exact_populations():
    rng = np.random.default_rng(0)
    like = np.repeat(rng.normal(size=(1, 4, 3)), 40, axis=0)
    starts = CHAIN.positions(WELLS.centres[np.arange(40) % 2], like)
    target, mixture = Target(TOY, THERMAL), Mixture([CartesianStep(0.03), JUMP], [0.7, 0.3])
    path = run(Chains.start(starts, TOY), mixture, target, 1000, 4, rng, lambda: None)
    turns = np.stack([CHAIN.values(frame)[:, 5] for frame in path.positions])
    mean, error = mean_and_error((np.abs(turns - 2.0) < 1.5) * 1.0)
    assert 0.55 < TOY.right < 0.9
    assert error < 0.02
    assert abs(mean - TOY.right) < 3.5 * error
    assert path.acceptance["well jump"] > 0.3


@pytest.mark.parametrize("ratio", [True, False])
def test_jumps_keep_detailed_balance_by_their_ratio(ratio):
    """In equilibrium, jumps from one part of space to another are as frequent as back."""

    class Unweighted(WellJump):
        def propose(self, chains, rng):
            return replace(super().propose(chains, rng), log_ratio=np.zeros(len(chains)))

    rng = np.random.default_rng(1)
    n = 60_000
    before = Chains.start(TOY.sample(n, rng), TOY)
    kernel = JUMP if ratio else Unweighted(WELLS)
    after, accepted = metropolis_step(before, kernel, Target(TOY, THERMAL), rng)
    assert accepted.mean() > 0.3
    x, y = (CHAIN.values(c.positions) for c in (before, after))
    features = [
        (x[:, 5] > 0.4, y[:, 5] > 0.4),
        (x[:, 3], y[:, 3]),
        (np.abs(x[:, 4] - ANGLE), np.abs(y[:, 4] - ANGLE)),
        (before.energies, after.energies),
    ]
    worst = 0.0
    for i, (f_x, f_y) in enumerate(features):
        change = f_y * 1.0 - f_x
        worst = max(worst, abs(change.mean()) / (change.std() / np.sqrt(n)))
        for g_x, g_y in features[:i]:
            flux = f_x * 1.0 * g_y - g_x * 1.0 * f_y
            worst = max(worst, abs(flux.mean()) / (flux.std() / np.sqrt(n)))
    assert worst < 4 if ratio else worst > 20


@pytest.mark.parametrize("smiles", ["O", "CCCO", "C1CCCC1O", "N#CCCO", "CC#CC"])
def test_geometries_come_back_from_internal_coordinates_with_their_orientation(smiles):
    molecule, geometries = shaken(smiles)
    coordinates = InternalCoordinates.of(molecule, geometries)
    values = coordinates.values(geometries)
    assert values.shape == (4, 3 * molecule.n_atoms - 6)
    np.testing.assert_allclose(coordinates.positions(values, geometries), geometries, atol=1e-9)


def test_the_volume_element_is_that_of_the_derivatives():
    molecule, geometries = shaken("CCO")
    coordinates = InternalCoordinates.of(molecule, geometries)
    values = coordinates.values(geometries)
    found = []
    for value, geometry in zip(values, geometries, strict=True):
        steps = 1e-5 * np.eye(len(value))
        like = np.repeat(geometry[None], len(value), axis=0)
        ahead, behind = (coordinates.positions(value + s * steps, like) for s in (1, -1))
        slopes = reduced(ahead - behind) / 2e-5
        turns = reduced(np.array([np.cross(axis, geometry) for axis in np.eye(3)]))
        found.append(np.linalg.slogdet(np.concatenate([slopes, turns]))[1])
    volumes = coordinates.log_volumes(values)
    np.testing.assert_allclose(np.diff(found), np.diff(volumes), atol=1e-5)


@pytest.fixture(scope="module")
def propanol(model):
    return sample_conformers("CCCO", model, level="mmff94")


def test_conformers_have_the_wells_of_their_images(propanol):
    """Two torsions of three wells each; those that are mirror images are as deep and as wide."""
    surface = Surface(propanol.molecule, "mmff94")
    wells = Wells.of(propanol.molecule, propanol, surface, kB * 300)
    assert len(propanol) == 5 and len(wells) == 9
    like = np.repeat(propanol.positions[:1], 9, axis=0)
    energies = surface.energies(wells.coordinates.positions(wells.centres, like))
    expected = np.sort(np.repeat(propanol.energies, propanol.columns["mirror_images"]))
    np.testing.assert_allclose(np.sort(energies), expected, atol=1e-8)
    ordered = np.sort(wells.weights)
    pairs = sum(np.isclose(ordered[1:], ordered[:-1], rtol=1e-3))
    assert pairs == 4


def test_images_keep_the_order_about_each_centre():
    molecule = Molecule.from_smiles("CC(C)CO")
    start = molecule.positions
    kept = [image.positions(start) for image in images(molecule, start, start, mirrored=True)]
    surface = Surface(molecule, "mmff94")
    np.testing.assert_allclose(surface.energies(np.array(kept)), surface.energies(start[None])[0])
    near = [b.end if b.begin == 1 else b.begin for b in molecule.bonds if 1 in b[:2]]
    senses = [np.linalg.det(xyz[near[:3]] - xyz[1]) for xyz in (start, *kept)]
    assert len(kept) >= 2 and len(set(np.sign(senses))) == 1


@pytest.mark.slow
def test_samples_with_jumps_are_those_of_torsion_moves(propanol):
    """Of 1-propanol, beside chains of other moves alone."""
    found = sample_boltzmann("CCCO", 800, conformers=propanol)
    assert found.provenance.diagnostics["acceptance"]["well jump"] > 0.4
    molecule, rng = found.molecule, np.random.default_rng(0)
    surface = Surface(molecule, "mmff94")
    target = Target(surface.energies, kB * 300)
    chains = Chains.start(embed_starts(molecule, 10, 3), surface.energies)
    mixture = Mixture([CartesianStep(0.012), TorsionJump(Rotors.of(molecule))], [0.6, 0.4])
    chains, mixture = tune(chains, mixture, target, 1000, rng, lambda: None)
    path = run(chains, mixture, target, 200, 100, rng, lambda: None)
    quads = np.array([[0, 1, 2, 3]])
    ours = found.positions.reshape(-1, 10, molecule.n_atoms, 3)
    for observable in (
        lambda xyz, e: e,
        lambda xyz, e: np.cos(torsion_angles(xyz, quads)[0]),
        lambda xyz, e: (torsion_angles(xyz, quads)[0] > 2.1) * 1.0,
    ):
        mean, error = mean_and_error(observable(ours, found.energies.reshape(-1, 10)))
        known, known_error = mean_and_error(observable(path.positions, path.energies))
        assert abs(mean - known) < 3.5 * np.hypot(error, known_error)


@pytest.mark.parametrize(
    ("smiles", "level", "message"),
    [
        ("CCO", "mmff94", "the conformers are of another molecule"),
        ("CCCO", "uff", "the conformers are minima of mmff94: search for those of uff"),
    ],
)
def test_conformers_of_something_else_are_refused(propanol, smiles, level, message):
    with pytest.raises(ValueError, match=message):
        sample_boltzmann(smiles, level=level, conformers=propanol)


def shaken(smiles):
    molecule = Molecule.from_smiles(smiles)
    shifts = 0.03 * np.random.default_rng(0).normal(size=(4, molecule.n_atoms, 3))
    geometries = molecule.positions + shifts
    return molecule, geometries - geometries.mean(axis=1, keepdims=True)


def mean_and_error(values):
    ess = Diagnostics.of({"x": values}).ess["x"]
    return values.mean(), values.std() / np.sqrt(ess)
