"""Samplers: functions that move positions along decreasing noise levels.

Each takes a function ``denoise(positions, sigma)`` that estimates the minimum, for one molecule or
a batch. The caller is responsible for padding and centring.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from diffrelax.network.network import centre

Denoise = Callable[[Tensor, float], Tensor]


def sample_deterministic(
    denoise: Denoise,
    positions: Tensor,
    sigmas: Sequence[float],
    callback: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """Follow the probability-flow ODE from a geometry (Karras et al. 2022, alg. 1).

    Takes Euler steps with one evaluation of the denoiser each, and adds no noise. The last step
    ends at noise level zero, at the denoiser's estimate.

    Parameters
    ----------
    denoise : callable
    positions : (..., n_atoms, 3) tensor, Å
    sigmas : sequence of float, Å
        Decreasing noise levels; the first is that of ``positions``.
    callback : callable, optional
        Called with each estimate of the minimum.

    Returns
    -------
    (..., n_atoms, 3) tensor, Å
    """
    for sigma, lower in pairwise([*sigmas, 0.0]):
        denoised = denoise(positions, sigma)
        if callback:
            callback(denoised)
        positions = denoised + (lower / sigma) * (positions - denoised)
    return positions


def sample_stochastic(
    denoise: Denoise,
    positions: Tensor,
    sigmas: Sequence[float],
    noise: Callable[[Tensor], Tensor],
    end: float = 0.0,
) -> Tensor:
    """Sample the reverse diffusion: each step draws from the posterior at the next lower level.

    For added noise of variance σ², the posterior given the estimate D is Gaussian with mean
    ``D + (σ'/σ)² (x − D)`` and variance ``σ'² (1 − σ'²/σ²)`` (Ho et al. 2020, eq. 7).

    Parameters
    ----------
    denoise, positions, sigmas
        As in :func:`sample_deterministic`.
    noise : callable
        Returns standard normal noise of the shape of its argument, with zero mean over the atoms
        of each molecule.
    end : float, Å
        Noise level of the result.

    Returns
    -------
    (..., n_atoms, 3) tensor, Å
    """
    for sigma, lower in pairwise([*sigmas, end]):
        denoised = denoise(positions, sigma)
        positions = denoised + (lower / sigma) ** 2 * (positions - denoised)
        if lower > 0:
            positions = positions + lower * (1 - (lower / sigma) ** 2) ** 0.5 * noise(positions)
    return positions


def centred_noise(real: Tensor, generator: torch.Generator) -> Tensor:
    """Draw normal noise with zero mean over the atoms of each molecule.

    Parameters
    ----------
    real : (n_molecules, n_atoms) bool tensor
        True where there is an atom.
    generator : torch.Generator

    Returns
    -------
    (n_molecules, n_atoms, 3) tensor
    """
    noise = torch.randn(*real.shape, 3, generator=generator, device=generator.device)
    return centre(noise.to(real.device), real)
