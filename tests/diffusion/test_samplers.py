"""The samplers against Gaussian data, whose denoiser is known in closed form."""

import math

import pytest
import torch

from diffrelax.diffusion.samplers import centred_noise, sample_deterministic, sample_stochastic

DATA = 0.05  # Å, standard deviation of the data about MEAN
MEAN = 0.2


def gaussian_denoiser(x, sigma):
    return MEAN + (x - MEAN) * DATA**2 / (DATA**2 + sigma**2)


def levels(n, highest=0.3, lowest=1e-4):
    return torch.logspace(math.log10(highest), math.log10(lowest), n).tolist()


def test_deterministic_follows_the_probability_flow():
    start = torch.tensor([[0.5, 0.0, -0.3]])
    sigmas = levels(2000)
    end = sample_deterministic(gaussian_denoiser, start, sigmas)
    exact = MEAN + (start - MEAN) * DATA / math.hypot(DATA, sigmas[0])
    torch.testing.assert_close(end, exact, atol=3e-4, rtol=0)


def test_deterministic_is_first_order():
    start = torch.tensor([[0.5, 0.0, -0.3]])
    exact = MEAN + (start - MEAN) * DATA / math.hypot(DATA, 0.3)
    errors = [
        (sample_deterministic(gaussian_denoiser, start, levels(n)) - exact).abs().max()
        for n in (100, 200)
    ]
    assert errors[0] / errors[1] == pytest.approx(2.0, rel=0.15)


def test_one_level_is_the_denoiser_itself():
    start = torch.tensor([[0.5, 0.0, -0.3]])
    end = sample_deterministic(gaussian_denoiser, start, [0.1])
    torch.testing.assert_close(end, gaussian_denoiser(start, 0.1))


def test_stochastic_samples_the_data():
    generator = torch.Generator().manual_seed(0)

    def noise(x):
        return torch.randn(x.shape, generator=generator)

    n = 20_000
    start = MEAN + math.hypot(DATA, 0.3) * torch.randn(n, 1, 3, generator=generator)
    end = sample_stochastic(gaussian_denoiser, start, levels(400), noise)
    spread = DATA / math.sqrt(3 * n)
    assert end.mean() == pytest.approx(MEAN, abs=4 * spread)
    assert end.std() == pytest.approx(DATA, abs=4 * spread / math.sqrt(2) + 0.01 * DATA)
    flat = (end - MEAN).flatten() / end.std()
    assert (flat**4).mean() == pytest.approx(3.0, rel=0.05)


def test_stochastic_forgets_where_it_started():
    generator = torch.Generator().manual_seed(0)

    def noise(x):
        return torch.randn(x.shape, generator=generator)

    start = torch.full((20_000, 1, 3), 0.5)
    end = sample_stochastic(gaussian_denoiser, start, levels(400), noise)
    # after one level σ the mean is that of the posterior, MEAN + (x − MEAN) s²/(s² + σ²)
    assert end.mean() == pytest.approx(MEAN + 0.3 * DATA**2 / (DATA**2 + 0.3**2), abs=2e-3)


def test_centred_noise_has_no_mean_and_spares_absent_atoms():
    real = torch.ones(500, 6, dtype=torch.bool)
    real[:, 4:] = False
    noise = centred_noise(real, torch.Generator().manual_seed(0))
    assert noise.sum(1).abs().max() < 1e-5
    assert noise[:, 4:].abs().max() == 0
    assert noise[:, :4].var() == pytest.approx(3 / 4, rel=0.05)
    assert torch.equal(noise, centred_noise(real, torch.Generator().manual_seed(0)))
