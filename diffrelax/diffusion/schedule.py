"""Relaxation on tensors along a schedule of noise levels."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Self

import torch
from pydantic import PositiveFloat, model_validator
from torch import Tensor

from diffrelax.diffusion.denoiser import Denoiser
from diffrelax.diffusion.samplers import Denoise, sample_deterministic
from diffrelax.entries import Entries
from diffrelax.errors import InputError
from diffrelax.network.network import Context

LARGEST_STEP = 20


class RelaxationSchedule(Entries):
    """Noise levels of a relaxation, with one evaluation of the network each.

    Attributes
    ----------
    bridge : tuple of float, Å
        Decreasing levels along the bridge from a force-field geometry.
    polish : tuple of float, Å
        Decreasing levels of the Gaussian denoising that follows; empty if the bridge is enough.
        Without any levels, geometries are not changed.
    """

    bridge: tuple[PositiveFloat, ...] = (0.1, 0.05)
    polish: tuple[PositiveFloat, ...] = (0.08, 0.03, 0.01)

    @model_validator(mode="after")
    def _check_levels(self) -> Self:
        for levels in (self.bridge, self.polish):
            if any(not high > low for high, low in pairwise(levels)):
                raise InputError(f"noise levels must fall: {levels}")
        return self

    @property
    def first(self) -> float:
        """Noise level assumed for a start, Å; 0 if it is left unchanged."""
        return (*self.bridge, *self.polish, 0.0)[0]

    @property
    def n_evaluations(self) -> int:
        """Number of evaluations of the network."""
        return len(self.bridge) + len(self.polish)


@torch.no_grad()
def relax_positions(
    denoiser: Denoiser,
    numbers: Tensor,
    positions: Tensor,
    schedule: RelaxationSchedule,
    callback: Callable[[Tensor], None] | None = None,
    context: Context | None = None,
) -> Tensor:
    """Relax a batch of geometries: first along the bridge, then by the polish.

    Parameters
    ----------
    denoiser : Denoiser
    numbers : (n_molecules, n_atoms) int tensor
        Atomic numbers, 0 where there is no atom.
    positions : (n_molecules, n_atoms, 3) tensor, Å
    schedule : RelaxationSchedule
    callback : callable, optional
        Called with each estimate of the minimum.
    context : Context, optional
        Default: neutral molecules at the only level of theory.

    Returns
    -------
    (n_molecules, n_atoms, 3) tensor, Å
    """
    for bridge, levels in ((True, schedule.bridge), (False, schedule.polish)):
        denoise = denoise_as(denoiser, numbers, bridge, context)
        positions = sample_deterministic(denoise, positions, levels, callback)
    return positions


def denoise_as(
    denoiser: Denoiser, numbers: Tensor, bridge: bool, context: Context | None = None
) -> Denoise:
    """Return the function that a sampler calls to estimate the minima of a batch at one level.

    The step of each atom is at most `LARGEST_STEP` times the noise level, so that a single wrong
    prediction cannot destroy a geometry.

    Parameters
    ----------
    denoiser : Denoiser
    numbers : (n_molecules, n_atoms) int tensor
    bridge : bool
        Whether the displacement is that of a force field; otherwise it is noise.
    context : Context, optional
    """
    flags = torch.full((len(numbers),), bridge, device=numbers.device)

    def denoise(positions: Tensor, sigma: float) -> Tensor:
        sigmas = positions.new_full((len(positions),), sigma)
        step = denoiser(numbers, positions, sigmas, flags, context) - positions
        length = step.norm(dim=-1, keepdim=True)
        return positions + step * (LARGEST_STEP * sigma / length).clamp(max=1.0)

    return denoise
