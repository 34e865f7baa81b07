"""Errors on validation molecules during training."""

from __future__ import annotations

import numpy as np

from diffrelax.diffusion.denoiser import Denoiser
from diffrelax.diffusion.schedule import relax_positions
from diffrelax.geometry import geometry_errors
from diffrelax.training.config import ModelConfig
from diffrelax.training.geometries import GeometrySet, like_batches
from diffrelax.training.log import Errors

BATCH = 64


def validate(ema: Denoiser, validation_set: GeometrySet, config: ModelConfig) -> list[Errors]:
    """Relax validation molecules whose start is in the basin of the minimum.

    Some molecules are chosen for each level of theory and each level of starts.
    """
    settings = config.training
    usable = settings.in_basin(validation_set.start_rmsd, validation_set.start_torsion)
    shuffled = np.random.default_rng(0).permutation(np.flatnonzero(usable))
    device = next(ema.parameters()).device
    found = []
    kinds = np.stack([validation_set.level, validation_set.start_level], axis=1)
    for level, start in np.unique(kinds[shuffled], axis=0):
        chosen = shuffled[(kinds[shuffled] == (level, start)).all(axis=1)]
        chosen = chosen[: settings.validation_molecules]
        name = validation_set.start_levels[start]
        errors = []
        for padded in like_batches(validation_set, chosen, usable, BATCH):
            batch = padded.to(device)
            given = batch.numbers, batch.starts
            ends = relax_positions(ema, *given, config.schedule(name), context=batch.context)
            errors += [geometry_errors(*one) for one in batch.unpadded(ends)]
        names = validation_set.levels or (config.level,)
        found.append(Errors.of(names[level], name, errors))
    return found
