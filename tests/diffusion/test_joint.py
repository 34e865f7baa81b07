import math

import numpy as np
import pytest
import torch
from e3nn import o3

from diffrelax.diffusion.denoiser import DenoiserConfig
from diffrelax.diffusion.generation import generate_positions
from diffrelax.diffusion.joint import GenerationConfig, JointDenoiser
from diffrelax.network.config import NetworkConfig
from diffrelax.network.network import centre

NUMBERS = torch.tensor([[6, 1, 1, 7, 1], [8, 1, 1, 0, 0]])
REAL = NUMBERS > 0
SIGMA = torch.tensor([0.3, 1.2])


@pytest.fixture
def denoiser():
    torch.manual_seed(0)
    denoiser = JointDenoiser(
        NetworkConfig(channels=8, radial=6, layers=2, cutoff=10.0),
        DenoiserConfig(sigma_min=0.01, sigma_max=15.0),
        GenerationConfig(sizes={3: 1, 5: 2}),
    )
    torch.nn.init.normal_(denoiser.network.readout.weight)
    return denoiser.eval().requires_grad_(False)


def noisy(denoiser):
    generator = torch.Generator().manual_seed(1)
    species = denoiser.encode(NUMBERS)
    species = species + 0.3 * torch.randn(species.shape, generator=generator) * REAL[..., None]
    return centre(torch.randn(2, 5, 3, generator=generator), REAL), species


def test_elements_become_coordinates(denoiser):
    species = denoiser.encode(NUMBERS)
    assert species.shape == (2, 5, 5)
    assert species[0, 3].tolist() == [0, 0, 0.25, 0, 0]
    assert species[1, 3:].abs().max() == 0


def test_an_untrained_network_leaves_bayes_theorem_for_a_flat_prior(denoiser):
    positions, species = noisy(denoiser)
    _, logits = denoiser.joint(positions, species, SIGMA, REAL)
    probabilities = logits.softmax(-1)
    for molecule, atom in ((0, 0), (0, 3), (1, 2)):
        likelihoods = []
        for element in range(5):
            clean = [0.25 * (element == k) for k in range(5)]
            square = sum(
                (float(a) - b) ** 2 for a, b in zip(species[molecule, atom], clean, strict=True)
            )
            likelihoods.append(math.exp(-square / (2 * float(SIGMA[molecule]) ** 2)))
        expected = torch.tensor(likelihoods) / sum(likelihoods)
        torch.testing.assert_close(probabilities[molecule, atom], expected, atol=1e-5, rtol=1e-4)


def test_positions_are_equivariant_and_elements_invariant(denoiser):
    torch.nn.init.normal_(denoiser.elements.weight)
    positions, species = noisy(denoiser)
    denoised, logits = denoiser.joint(positions, species, SIGMA, REAL)
    for matrix in (o3.rand_matrix(), -torch.eye(3)):
        moved, same = denoiser.joint(positions @ matrix.T, species, SIGMA, REAL)
        torch.testing.assert_close(moved, denoised @ matrix.T, atol=5e-5, rtol=2e-5)
        torch.testing.assert_close(same, logits, atol=5e-5, rtol=2e-5)


def test_known_elements_are_elements_without_noise(denoiser):
    positions, _ = noisy(denoiser)
    known = denoiser(NUMBERS, positions, SIGMA, torch.zeros(2, dtype=torch.bool))
    joint, _ = denoiser.joint(positions, denoiser.encode(NUMBERS), SIGMA, REAL)
    torch.testing.assert_close(known, joint)


SETTINGS = GenerationConfig(sizes={3: 1}, n_levels=6, settle_at=0.2, restart_at=5.0, restarts=2)


def walk(denoiser, seed=0, **options):
    """Generate two molecules; return them, and the levels and molecules that were seen."""
    seen = []
    made = generate_positions(
        denoiser,
        torch.tensor([3, 5]),
        SETTINGS,
        torch.Generator().manual_seed(seed),
        observe=lambda level, which, *state: seen.append((level, which.tolist(), *state)),
        **options,
    )
    return made, seen


def test_generation_walks_down_the_levels_and_keeps_centre_and_padding(denoiser):
    levels = SETTINGS.levels(denoiser.config)
    (numbers, positions), seen = walk(denoiser)
    assert [(level, which) for level, which, *_ in seen] == [(level, [0, 1]) for level in levels]
    first, probabilities = seen[0][2], seen[0][4]
    assert first[1].std() == pytest.approx(15.0, rel=0.5)
    real = (torch.arange(5) < torch.tensor([[3], [5]])).float()
    torch.testing.assert_close(probabilities.sum(-1), real)
    assert (numbers > 0).sum(1).tolist() == [3, 5]
    assert positions.sum(1).abs().max() < 1e-4
    assert positions[0, 3:].abs().max() == 0
    assert torch.equal(positions, walk(denoiser)[0][1])
    assert not torch.equal(positions, walk(denoiser, seed=1)[0][1])


def test_what_has_no_elements_goes_back_to_more_noise_and_then_settles(denoiser):
    asked = []

    def settle(elements, scores, positions):
        assert scores.shape == (len(positions), len(elements))
        assert np.exp(scores).sum(1) == pytest.approx(1)
        asked.append(len(positions))
        return None if asked == [3] else np.full(len(positions), 7)

    levels = SETTINGS.levels(denoiser.config)
    high, again = [x for x in levels if x > 0.2], [x for x in levels if 0.2 < x <= 5.0]
    (numbers, _), seen = walk(denoiser, settle=settle)
    assert asked == [3, 5, 3]
    assert [level for level, *_ in seen] == [*high, *again, *levels[len(high) :]]
    assert [which for _, which, *_ in seen[len(high) :]][: len(again)] == [[0]] * len(again)
    assert seen[len(high)][2].std() == pytest.approx(again[0], rel=0.6)
    assert numbers.tolist() == [[7, 7, 7, 0, 0], [7] * 5]


def test_what_never_settles_keeps_its_most_probable_elements(denoiser):
    asked = []
    (numbers, _), seen = walk(denoiser, settle=lambda *atoms: asked.append(atoms))
    assert len(asked) == 2 * (1 + SETTINGS.restarts)
    assert torch.equal((numbers > 0).sum(1), torch.tensor([3, 5]))
    elements = torch.tensor(denoiser.network.elements)
    assert torch.equal(numbers[1], elements[seen[-1][4][1].argmax(-1)])


DATA = 0.05  # Å, standard deviation of positions


class Known(JointDenoiser):
    """Of Gaussian data, whose elements are drawn by lot: all is known in closed form."""

    def joint(self, positions, species, sigma, real):
        variance = sigma.square()[:, None, None]
        return (
            positions * DATA**2 / (DATA**2 + variance),
            self.element_scale * species / variance,
        )


def test_exploration_ends_in_the_distribution_of_its_level_and_hands_over_its_estimate():
    network = NetworkConfig(channels=8, radial=6, layers=1, cutoff=10.0)
    settings = GenerationConfig(sizes={3: 1}, n_levels=150, settle_at=0.08, restart_at=0.4)
    scales = DenoiserConfig(sigma_min=0.01, sigma_max=3.0)
    denoiser = Known(network, scales, settings).eval()
    levels = settings.levels(scales)
    at = next(level for level in levels if level <= settings.settle_at)
    back = next(level for level in levels if level <= settings.restart_at)
    n, seen, scores, handed = 2000, [], [], []
    free = (2 / 3) ** 0.5  # three atoms without their centre

    def observe(level, which, positions, estimates, probabilities):
        if level == back:
            seen.append(positions.std().item())

    def settle(elements, logarithms, positions):
        scores.append(np.exp(logarithms).max(-1).mean())
        return np.array([8, 1, 1]) if len(scores) > n else None

    def relax(numbers, positions):
        handed.append((numbers, positions))
        return positions + 1.0

    numbers, positions = generate_positions(
        denoiser, torch.full((n,), 3), settings, torch.Generator().manual_seed(0),
        settle=settle, relax=relax, observe=observe,
    )  # fmt: skip
    assert seen == pytest.approx(2 * [free * math.hypot(DATA, back)], rel=0.03)
    [(taken, estimates)] = handed
    assert taken.tolist() == numbers.tolist() == n * [[8, 1, 1]]
    torch.testing.assert_close(positions, estimates + 1.0)
    expected = free * DATA**2 / math.hypot(DATA, at)
    assert estimates.std().item() == pytest.approx(expected, rel=0.03)

    drawn = np.random.default_rng(0).normal(size=(20_000, 5)) * at
    drawn[:, 0] += settings.element_scale
    weights = np.exp(settings.element_scale * drawn / at**2)
    sharpness = (weights.max(1) / weights.sum(1)).mean()
    assert np.mean(scores) == pytest.approx(sharpness, abs=0.005)
