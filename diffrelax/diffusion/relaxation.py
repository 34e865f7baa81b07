"""The relaxation phase on tensors: a schedule of noise levels, and the walk along it."""

from __future__ import annotations

from itertools import pairwise
from typing import Self

import torch
from pydantic import BaseModel, ConfigDict, PositiveFloat, model_validator
from torch import Tensor

from diffrelax.diffusion.denoiser import Denoiser
from diffrelax.diffusion.samplers import Denoise, sample_deterministic


class RelaxationSchedule(BaseModel):
    """Noise levels of the relaxation phase, each one evaluation of the network.

    Attributes
    ----------
    bridge : tuple of float, Å
        Falling levels along the bridge from a force-field geometry.
    polish : tuple of float, Å
        Falling levels of Gaussian denoising that follow.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bridge: tuple[PositiveFloat, ...] = (0.1, 0.05)
    polish: tuple[PositiveFloat, ...] = (0.08, 0.03, 0.01)

    @model_validator(mode="after")
    def _check_levels(self) -> Self:
        for levels in (self.bridge, self.polish):
            if any(not high > low for high, low in pairwise(levels)):
                raise ValueError(f"noise levels must fall: {levels}")
        if not self.bridge + self.polish:
            raise ValueError("give at least one noise level")
        return self

    @property
    def n_evaluations(self) -> int:
        """Number of evaluations of the network."""
        return len(self.bridge) + len(self.polish)


@torch.no_grad()
def relax_positions(
    denoiser: Denoiser, numbers: Tensor, positions: Tensor, schedule: RelaxationSchedule
) -> Tensor:
    """Relax a batch of geometries as they stand: the bridge, then the polish.

    Parameters
    ----------
    denoiser : Denoiser
    numbers : (n_molecules, n_atoms) int tensor
        Atomic numbers, 0 where there is no atom.
    positions : (n_molecules, n_atoms, 3) tensor, Å
    schedule : RelaxationSchedule

    Returns
    -------
    (n_molecules, n_atoms, 3) tensor, Å
    """

    def denoise(bridge: bool) -> Denoise:
        flags = torch.full((len(numbers),), bridge, device=numbers.device)

        def estimate(x: Tensor, sigma: float) -> Tensor:
            return denoiser(numbers, x, x.new_full((len(x),), sigma), flags)

        return estimate

    positions = sample_deterministic(denoise(True), positions, schedule.bridge)
    return sample_deterministic(denoise(False), positions, schedule.polish)
