"""Calibration of a trained denoiser on validation molecules: what its readings mean."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from diffrelax.diffusion.denoiser import Denoiser
from diffrelax.diffusion.reading import Calibration, ErrorBound, root_mean_square
from diffrelax.diffusion.relaxation import RelaxationSchedule, denoise_as, relax_positions
from diffrelax.diffusion.samplers import centred_noise
from diffrelax.training.errors import superpose
from diffrelax.training.geometries import Batch, GeometrySet, collate

FEWEST = 50
MOST = 1024
BATCH = 64
SETTLED, NEAR, KEPT = 0.9, 0.02, 0.9  # quantiles
SHAKEN = (0.002, 0.006)  # Å, noise levels of geometries near their minima


def calibrate(
    denoiser: Denoiser,
    validation_set: GeometrySet,
    usable: np.ndarray,
    schedule: RelaxationSchedule,
) -> Calibration | None:
    """Find out what a denoiser reads from validation molecules, and how far its ends are off.

    Parameters
    ----------
    denoiser : Denoiser
    validation_set : GeometrySet
    usable : (len(validation_set),) bool array
        Which molecules have a start in the basin of their minimum.
    schedule : RelaxationSchedule

    Returns
    -------
    Calibration or None
        None if there are fewer than fifty usable molecules, or no bridge.
    """
    chosen = np.random.default_rng(0).permutation(np.flatnonzero(usable))[:MOST]
    if len(chosen) < FEWEST or not schedule.bridge:
        return None
    chosen = chosen[np.argsort(validation_set.sizes[chosen], kind="stable")]
    device = next(denoiser.parameters()).device
    batches = [
        collate(validation_set, chosen[i : i + BATCH], usable).to(device)
        for i in range(0, len(chosen), BATCH)
    ]
    generator = torch.Generator().manual_seed(0)

    def step(positions: Tensor, batch: Batch) -> Tensor:
        return denoise_as(denoiser, batch.numbers, bridge=False)(positions, schedule.polish[-1])

    def over(measure: Callable[[Batch], Tensor]) -> np.ndarray:
        with torch.no_grad():
            return torch.cat([measure(batch) for batch in batches], dim=-1).cpu().numpy()

    def reading(positions: Tensor, batch: Batch) -> Tensor:
        return root_mean_square(step(positions, batch) - positions, batch.numbers)

    def after_step(batch: Batch) -> Tensor:
        real = batch.numbers > 0
        low, high = np.log(SHAKEN)
        level = torch.exp(low + (high - low) * torch.rand(len(real), generator=generator))
        noise = centred_noise(real, generator)
        shaken = batch.positions + level.to(device)[:, None, None] * noise
        end = step(shaken, batch)
        return torch.stack([root_mean_square(end - shaken, batch.numbers), _errors(end, batch)])

    def after_schedule(batch: Batch) -> Tensor:
        estimates: list[Tensor] = []
        end = relax_positions(denoiser, batch.numbers, batch.starts, schedule, estimates.append)
        moved = root_mean_square(end - estimates[0], batch.numbers)
        return torch.stack([moved, _errors(end, batch)])

    return Calibration(
        settled=np.quantile(over(lambda batch: reading(batch.positions, batch)), SETTLED),
        near=np.quantile(over(lambda batch: reading(batch.starts, batch)), NEAR),
        after_step=_fit_bound(*over(after_step)),
        after_schedule=_fit_bound(*over(after_schedule)),
    )


def _errors(ends: Tensor, batch: Batch) -> Tensor:
    rows = zip(batch.numbers.cpu(), ends.cpu(), batch.positions.cpu(), strict=True)
    return torch.tensor(
        [superpose(end[z > 0].numpy(), minimum[z > 0].numpy())[1] for z, end, minimum in rows],
        device=ends.device,
    )


def _fit_bound(sign: np.ndarray, error: np.ndarray) -> ErrorBound:
    """Fit a power law by least squares in the logarithms, and raise it above nine in ten."""
    exponent, intercept = np.polyfit(np.log(sign), np.log(error), 1)
    margin = np.quantile(np.log(error) - exponent * np.log(sign) - intercept, KEPT)
    return ErrorBound(scale=np.exp(intercept + margin), exponent=exponent)
