"""Training losses: the error of an estimated minimum, in units of the noise."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

CLOSE = 0.003  # Å


def denoising_loss(
    numbers: Tensor, denoised: Tensor, target: Tensor, sigma: Tensor, pair_weight: float
) -> Tensor:
    """Compare an estimated minimum with the true one.

    The loss is the Huber loss of the coordinates, plus ``pair_weight`` times the Huber loss of pair
    distances to first order. Pairs are weighted by d⁻⁴, which is about how force constants decrease
    from bonds (30 eV/Å²) to 1-3 distances (5 eV/Å²) and distant pairs, so that errors count by
    their effect on the energy.

    Parameters
    ----------
    numbers : (n_molecules, n_atoms) int tensor
        Atomic numbers, 0 where there is no atom.
    denoised, target : (n_molecules, n_atoms, 3) tensor, Å
    sigma : (n_molecules,) tensor, Å
        Size of the displacement.
    pair_weight : float

    Returns
    -------
    (n_molecules,) tensor
    """
    real = (numbers > 0).float()
    error = (denoised - target) / sigma[:, None, None]
    coordinates = _huber(error).sum(-1) * real
    coordinate_loss = coordinates.sum(1) / (3 * real.sum(1))

    vectors = target[:, :, None] - target[:, None]
    squares = vectors.square().sum(-1)
    pairs = real[:, :, None] * real[:, None] * (squares > 0)
    weights = pairs / squares.clamp(min=0.25).square()
    directions = vectors / squares.clamp(min=0.25).sqrt()[..., None]
    along = (directions @ error[..., None]).squeeze(-1)
    stretches = along + along.transpose(1, 2)  # directions are antisymmetric
    pair_loss = (weights * _huber(stretches)).sum((1, 2)) / weights.sum((1, 2)).clamp(min=1e-6)
    return coordinate_loss + pair_weight * pair_loss


def distance_loss(numbers: Tensor, denoised: Tensor, target: Tensor) -> Tensor:
    """Compare the distances in an estimated minimum with those in the true one.

    From the minimum at a cheap level of theory, bonds and angles can be predicted accurately, but
    torsions cannot. Coordinates mix the two: averaging them over possible torsions shortens bonds.
    Distances separate them. Their weights are those of `denoising_loss`; the Huber loss is linear
    for errors above `CLOSE`.

    Parameters
    ----------
    numbers, denoised, target
        As in `denoising_loss`.

    Returns
    -------
    (n_molecules,) tensor
    """
    real = (numbers > 0).float()
    squares = (target[:, :, None] - target[:, None]).square().sum(-1)
    pairs = real[:, :, None] * real[:, None] * (squares > 0)
    weights = pairs / squares.clamp(min=0.25).square()
    found = (denoised[:, :, None] - denoised[:, None]).square().sum(-1)
    errors = ((found + 1e-8).sqrt() - (squares + 1e-8).sqrt()) / CLOSE
    return (weights * _huber(errors)).sum((1, 2)) / weights.sum((1, 2)).clamp(min=1e-6)


def _huber(error: Tensor) -> Tensor:
    return functional.huber_loss(error, torch.zeros_like(error), reduction="none")
