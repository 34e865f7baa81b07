import pytest
import torch

from diffrelax.diffusion.denoiser import Denoiser, DenoiserConfig
from diffrelax.diffusion.schedule import RelaxationSchedule, relax_positions
from diffrelax.network.config import NetworkConfig


@pytest.fixture
def denoiser():
    torch.manual_seed(0)
    denoiser = Denoiser(NetworkConfig(channels=8, radial=6, layers=2), DenoiserConfig())
    torch.nn.init.normal_(denoiser.network.readout.weight)
    return denoiser.eval()


NUMBERS = torch.tensor([[6, 1, 1, 1, 1], [8, 1, 1, 0, 0]])


def geometry():
    generator = torch.Generator().manual_seed(3)
    return torch.randn(2, 5, 3, generator=generator) * (NUMBERS > 0)[..., None]


def test_small_noise_means_a_small_step_of_its_size(denoiser):
    positions, flags = geometry(), torch.tensor([False, False])
    steps = [
        (denoiser(NUMBERS, positions, torch.full((2,), s), flags) - positions).abs().max()
        for s in (0.005, 0.05)
    ]
    assert 0 < steps[0] < 0.05
    assert steps[1] > 4 * steps[0]


def test_before_training_the_estimate_is_the_mean_of_the_prior(denoiser):
    torch.nn.init.zeros_(denoiser.network.readout.weight)
    positions = geometry() + 5.0 * (NUMBERS > 0)[..., None]
    sigma = 0.3
    estimate = denoiser(NUMBERS, positions, torch.full((2,), sigma), torch.tensor([True, False]))
    real = (NUMBERS > 0)[..., None]
    middle = positions.sum(1, keepdim=True) / real.sum(1, keepdim=True)
    shrunk = middle + (positions - middle) / (1 + (sigma / 1.5) ** 2)
    torch.testing.assert_close(estimate, shrunk * real, atol=1e-5, rtol=1e-5)


def test_translation_passes_through(denoiser):
    positions, flags = geometry(), torch.tensor([True, False])
    shift = torch.tensor([10.0, -4.0, 1.0]) * (NUMBERS > 0)[..., None]
    sigma = torch.tensor([0.1, 0.02])
    moved = denoiser(NUMBERS, positions + shift, sigma, flags)
    still = denoiser(NUMBERS, positions, sigma, flags) + shift
    torch.testing.assert_close(moved, still, atol=2e-5, rtol=1e-5)


def test_bridge_and_noise_are_told_apart(denoiser):
    torch.nn.init.normal_(denoiser.network.layers[0].film.weight)
    positions, sigma = geometry(), torch.full((2,), 0.1)
    one = denoiser(NUMBERS, positions, sigma, torch.tensor([True, True]))
    other = denoiser(NUMBERS, positions, sigma, torch.tensor([False, False]))
    assert (one - other).abs().max() > 1e-4


def test_the_relaxation_counts_and_makes_its_evaluations(denoiser):
    schedule = RelaxationSchedule(bridge=(0.1, 0.05), polish=(0.02,))
    seen = []
    denoiser.register_forward_hook(lambda _, args, __: seen.append((args[2][0], args[3][0])))
    relax_positions(denoiser, NUMBERS, geometry(), schedule)
    assert schedule.n_evaluations == len(seen) == 3
    assert [round(float(s), 3) for s, _ in seen] == [0.1, 0.05, 0.02]
    assert [bool(b) for _, b in seen] == [True, True, False]
