"""Samplers: free functions that move positions along falling noise levels.

Each takes a function ``denoise(positions, sigma)`` that estimates the minimum. It may work on
one molecule or on a batch; padding and centring are its caller's.
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
    """Follow the probability flow from a geometry as it stands (Karras et al. 2022, alg. 1).

    Euler steps, each an evaluation of the denoiser: no noise is added. The last step ends at
    noise level zero, on the denoiser's estimate.

    Parameters
    ----------
    denoise : callable
    positions : (..., n_atoms, 3) tensor, Å
    sigmas : sequence of float, Å
        Falling noise levels; the first is that of ``positions``.
    callback : callable, optional
        Is given each estimate of the minimum.

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
    """Sample the reverse diffusion: each step draws from the posterior of the lower level.

    For added variances σ² the posterior given the estimated minimum D is Gaussian with mean
    ``D + (σ'/σ)² (x − D)`` and variance ``σ'² (1 − σ'²/σ²)`` (Ho et al. 2020, eq. 7).

    Parameters
    ----------
    denoise, positions, sigmas
        As in :func:`sample_deterministic`.
    noise : callable
        Returns standard normal noise of the shape of its argument, for a molecule with zero mean
        over its atoms.
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
        Where there is an atom.
    generator : torch.Generator

    Returns
    -------
    (n_molecules, n_atoms, 3) tensor
    """
    noise = torch.randn(*real.shape, 3, generator=generator, device=generator.device)
    return centre(noise.to(real.device), real)
