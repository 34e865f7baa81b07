"""Training objectives: displaced minima, and the losses of a denoiser on them."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from diffrelax.diffusion.denoiser import Denoiser, DenoiserConfig
from diffrelax.diffusion.joint import JointDenoiser
from diffrelax.diffusion.samplers import centred_noise
from diffrelax.training.config import TrainingConfig
from diffrelax.training.geometries import Batch
from diffrelax.training.loss import denoising_loss, distance_loss


class Objective(nn.Module):
    """The losses of a denoiser as a module, as required by `DistributedDataParallel`.

    Parameters
    ----------
    model : Denoiser
    settings : TrainingConfig
    """

    def __init__(self, model: Denoiser, settings: TrainingConfig) -> None:
        super().__init__()
        self.model = model
        self.settings = settings

    def forward(self, batch: Batch, generator: torch.Generator, part: slice) -> Losses:
        """Displace the minima of a batch, denoise them, and return the losses.

        Parameters
        ----------
        batch : Batch
        generator : torch.Generator
            Random numbers, the same in all processes.
        part : slice
            Molecules of the batch that this process works on.
        """
        if isinstance(self.model, JointDenoiser):
            return _generation_losses(self.model, batch, self.settings, generator, part)
        return _relaxation_losses(self.model, batch, self.settings, generator, part)


class Losses(NamedTuple):
    """Losses and displacements of the molecules of a batch.

    Attributes
    ----------
    total : (n_molecules,) tensor
    sigma : (n_molecules,) tensor, Å
    bridge : (n_molecules,) bool tensor
    elements : (n_molecules,) tensor or None
        Part of ``total`` for the elements; None if they are not denoised.
    """

    total: Tensor
    sigma: Tensor
    bridge: Tensor
    elements: Tensor | None = None


def _relaxation_losses(
    model: Denoiser,
    batch: Batch,
    settings: TrainingConfig,
    generator: torch.Generator,
    part: slice,
) -> Losses:
    displaced = displace(batch, model, settings, generator)
    positions, sigma, bridge = (tensor[part] for tensor in displaced)
    batch = batch[part]
    with _precision(batch, settings):
        start = torch.where(bridge, model.known_start(batch.context.start), 0)
        context = batch.context._replace(start=start)
        denoised = model(batch.numbers, positions, sigma, bridge, context)
    compared = batch.numbers, denoised, batch.positions
    total = denoising_loss(*compared, sigma, settings.pair_weight)
    if (start > 0).any():
        total = torch.where(start > 0, distance_loss(*compared), total)
    return Losses(total, sigma, bridge)


def _generation_losses(
    model: JointDenoiser,
    batch: Batch,
    settings: TrainingConfig,
    generator: torch.Generator,
    part: slice,
) -> Losses:
    """Add squared errors of the positions and cross entropies of the elements.

    Errors of positions are in units of the network's output (Karras et al. 2022, eq. 8). The mean
    squared error is minimal for the posterior mean, which samplers need.
    """
    real = batch.numbers > 0
    sigma = _gaussian_levels(
        torch.rand(len(real), generator=generator).to(real.device), model.config
    )
    scale = sigma[:, None, None]
    species = model.encode(batch.numbers)
    drawn = torch.randn(species.shape, generator=generator).to(real.device)
    noisy_species = species + scale * drawn * real[..., None]
    noisy_positions = batch.positions + scale * centred_noise(real, generator)
    batch = batch[part]
    real, sigma, scale, species = (tensor[part] for tensor in (real, sigma, scale, species))
    count = real.sum(1)
    with _precision(batch, settings):
        denoised, logits = model.joint(noisy_positions[part], noisy_species[part], sigma, real)
    unit = scale / (1 + (scale / model.config.sigma_data).square()).sqrt()
    errors = ((denoised - batch.positions) / unit).square().sum((1, 2)) / (3 * count)
    surprise = functional.cross_entropy(
        logits.transpose(1, 2), species.argmax(-1), reduction="none"
    )
    elements = (surprise * real).sum(1) / count
    return Losses(errors + elements, sigma, torch.zeros_like(sigma, dtype=torch.bool), elements)


def _precision(batch: Batch, settings: TrainingConfig) -> torch.autocast:
    half = settings.precision == "bfloat16"
    return torch.autocast(batch.numbers.device.type, torch.bfloat16, enabled=half)


def _gaussian_levels(uniform: Tensor, scales: DenoiserConfig) -> Tensor:
    span = math.log(scales.sigma_max / scales.sigma_min)
    return scales.sigma_min * torch.exp(span * uniform)


def displace(
    batch: Batch, model: Denoiser, settings: TrainingConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Displace the minima of a batch, by Gaussian noise or along the bridge.

    Returns
    -------
    positions : (n_molecules, n_atoms, 3) tensor, Å
    sigma : (n_molecules,) tensor, Å
        Sizes of the displacements.
    bridge : (n_molecules,) bool tensor
    """
    device, scales = batch.numbers.device, model.config
    kind, far, along, level = torch.rand(4, len(batch.numbers), generator=generator).to(device)
    bridge = (kind < settings.bridge_fraction) & batch.has_start
    fraction = torch.where(far < settings.bridge_full, 1.0, along.clamp(min=0.02))
    gaussian = _gaussian_levels(level, scales)
    sigma = torch.where(
        bridge, fraction * model.sigma_starts[model.known_start(batch.context.start)], gaussian
    )
    spread = torch.where(bridge, settings.bridge_noise * sigma, sigma)
    noise = centred_noise(batch.numbers > 0, generator)
    towards = torch.where(bridge, fraction, 0.0)[:, None, None]
    positions = torch.lerp(batch.positions, batch.starts, towards)
    return positions + spread[:, None, None] * noise, sigma, bridge
