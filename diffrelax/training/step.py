"""Initial state of a training run, and a single training step."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import nn

from diffrelax.diffusion.denoiser import Denoiser
from diffrelax.errors import InputError, UnfinishedError
from diffrelax.training.config import ModelConfig, TrainingConfig, build_denoiser
from diffrelax.training.geometries import Batch
from diffrelax.training.log import sums_of_losses
from diffrelax.training.muon import MuonAdamW
from diffrelax.training.objectives import Objective
from diffrelax.training.ranks import Ranks
from diffrelax.training.state import TrainingState

ALONE = Ranks()


def start_state(
    config: ModelConfig, device: torch.device, data: str, base: Denoiser | None = None
) -> TrainingState:
    """Return the initial state of a run, with random weights or those of a base model.

    Parameters
    ----------
    config : ModelConfig
    device : torch.device
    data : str
        Fingerprint of the training set.
    base : Denoiser, optional

    Raises
    ------
    ValueError
        If the base is a network with another shape.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        model = build_denoiser(config).to(device)
    if base is not None:
        try:
            model.begin_as(base)
        except RuntimeError as error:
            raise InputError(
                f"the base model has a different shape from {config.name}: {error}"
            ) from error
    ema = copy.deepcopy(model).requires_grad_(False)
    decay = config.training.weight_decay
    if config.training.learn == "level":  # other rows have no gradient and must not change
        model.requires_grad_(False).network.level_embedding.requires_grad_(True)
        decay = 0.0
    optimizer = _optimizer(model, config.training.optimizer, decay)
    for parameter in model.parameters():
        optimizer.state[parameter] = {
            "step": torch.zeros((), device=device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    return TrainingState(config.run() | {"data": data}, model, ema, optimizer, config.learned)


def _optimizer(model: Denoiser, name: str, weight_decay: float) -> torch.optim.AdamW:
    settings: dict[str, Any] = {"weight_decay": weight_decay, "betas": (0.9, 0.98), "fused": True}
    if name == "adamw":
        return torch.optim.AdamW(model.parameters(), **settings)
    matrices = [p for p in model.network.layers.parameters() if p.ndim == 2]
    ids = {id(p) for p in matrices}
    return MuonAdamW(matrices, [p for p in model.parameters() if id(p) not in ids], **settings)


def training_step(
    state: TrainingState,
    batch: Batch,
    settings: TrainingConfig,
    objective: nn.Module | None = None,
    ranks: Ranks = ALONE,
) -> dict[str, float]:
    """Take one step in place; return sums of losses and counts for each kind of displacement.

    Parameters
    ----------
    state : TrainingState
    batch : Batch
        The whole batch, in each of the parallel processes.
    settings : TrainingConfig
    objective : Objective or DistributedDataParallel, optional
        Objective for the model of the state.
    ranks : Ranks

    Raises
    ------
    ValueError
        If there are more processes than molecules in the batch.
    UnfinishedError
        If the gradient is not finite.
    """
    if len(batch.numbers) < ranks.world:
        raise InputError(
            f"{ranks.world} processes, and a batch of {len(batch.numbers)} molecules at "
            f"step {state.step}: use fewer processes"
        )
    # torch uses 32 bits of a seed
    (seed,) = np.random.SeedSequence([settings.seed, state.step]).generate_state(1).tolist()
    generator = torch.Generator().manual_seed(seed)
    objective = objective or Objective(state.model, settings)
    losses = objective(batch, generator, ranks.part)
    state.optimizer.zero_grad()
    (losses.total.sum() * ranks.world / len(batch.numbers)).backward()
    norm = torch.nn.utils.clip_grad_norm_(state.model.parameters(), settings.clip)
    if not norm.isfinite():
        raise UnfinishedError(
            f"the gradient is not finite at step {state.step}: use a lower learning rate, "
            "in a new folder"
        )
    for group in state.optimizer.param_groups:
        group["lr"] = settings.learning_rate_at(state.step)
    state.optimizer.step()
    state.step += 1
    decay = min(settings.ema, state.step / (state.step + 10))
    with torch.no_grad():
        for average, value in zip(state.ema.parameters(), state.model.parameters(), strict=True):
            average.lerp_(value, 1 - decay)
    return ranks.add_up(sums_of_losses(losses), state.device)
