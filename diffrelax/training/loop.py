"""The training loop."""

from __future__ import annotations

import copy
import csv
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from diffrelax.diffusion.denoiser import Denoiser, DenoiserConfig
from diffrelax.diffusion.relaxation import relax_positions
from diffrelax.diffusion.samplers import centred_noise
from diffrelax.training.config import ModelConfig, TrainingConfig
from diffrelax.training.errors import geometry_errors
from diffrelax.training.geometries import Batch, GeometrySet, collate, epoch_batches
from diffrelax.training.loss import denoising_loss
from diffrelax.training.state import TrainingState, save_tensors

LEVEL_EDGES = (0.012, 0.036, 0.1)  # Å; between them the loss of Gaussian noise is averaged
LOSSES = ("loss_to_12mA", "loss_to_36mA", "loss_to_100mA", "loss_above_100mA", "loss_bridge")
ERRORS = ("rmsd_A", "bonds_mA", "angles_mA")
COLUMNS = ("step", "seconds", "epoch", "learning_rate", "loss", *LOSSES, *ERRORS)


def train(
    config: ModelConfig,
    folder: Path,
    train_set: GeometrySet,
    validation_set: GeometrySet,
    *,
    device: str = "cpu",
    max_minutes: float = math.inf,
    resume: bool = False,
) -> TrainingState:
    """Train a model, or go on with it.

    Writes ``training.csv``, ``resume.safetensors`` and ``checkpoints/`` in ``folder``. An
    interrupted run that resumes repeats the steps since its last saved state exactly.

    Parameters
    ----------
    config : ModelConfig
    folder : path
    train_set, validation_set : GeometrySet
    device : str
    max_minutes : float
        Stop and save after this time.
    resume : bool
        Go on from ``resume.safetensors`` if it is there.

    Raises
    ------
    ValueError
        If there is a run in ``folder`` and ``resume`` is false, or if its state does not fit.
    """
    settings = config.training
    state = start_state(config, torch.device(device))
    saved = folder / "resume.safetensors"
    if saved.exists():
        if not resume:
            raise ValueError(f"{saved} holds a run: resume it, or move it away to start anew")
        state.load(saved)
    rows = TrainingLog(folder / "training.csv", state.step)
    usable = train_set.same_basin(settings.max_start_rmsd, settings.max_start_torsion)
    batches = _batches(train_set, usable, settings, state.step)
    started, deadline = time.monotonic() - state.seconds, time.monotonic() + 60 * max_minutes
    bar = tqdm(total=settings.steps, initial=state.step, unit="step", disable=None)
    while state.step < settings.steps and time.monotonic() < deadline:
        losses = training_step(state, next(batches).to(torch.device(device)), settings)
        rows.add(losses)
        state.seconds = time.monotonic() - started
        bar.update()
        if state.step % settings.log_every == 0:
            errors = {}
            if state.step % settings.validate_every == 0:
                errors = validate(state.ema, validation_set, config)
            epoch = state.step * settings.batch_size / len(train_set)
            row = rows.write(state, epoch, settings.learning_rate_at(state.step - 1), errors)
            bar.set_postfix(loss=row["loss"])
        if state.step in settings.checkpoint_steps():
            save_weights(state.ema, folder / "checkpoints" / f"step-{state.step}.safetensors",
                         config, state, torch.float16)  # fmt: skip
        if state.step % settings.save_every == 0:
            state.save(saved)
    bar.close()
    state.save(saved)
    save_weights(state.ema, folder / "model.safetensors", config, state, torch.float32)
    return state


def start_state(config: ModelConfig, device: torch.device) -> TrainingState:
    """Return the state before the first step, its weights drawn from the seed."""
    torch.manual_seed(config.training.seed)
    model = Denoiser(config.network, config.denoiser).to(device)
    ema = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(
        model.parameters(), weight_decay=config.training.weight_decay, betas=(0.9, 0.98), fused=True
    )
    for parameter in model.parameters():
        optimizer.state[parameter] = {
            "step": torch.zeros((), device=device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    return TrainingState(model, ema, optimizer)


def training_step(state: TrainingState, batch: Batch, settings: TrainingConfig) -> dict[str, float]:
    """Take one step in place; return the sums of losses and counts by kind of displacement."""
    generator = torch.Generator().manual_seed(settings.seed * 2**32 + state.step)
    positions, sigma, bridge = displace(batch, state.model.config, settings, generator)
    device = batch.numbers.device.type
    half = settings.precision == "bfloat16"
    with torch.autocast(device, torch.bfloat16, enabled=half):
        denoised = state.model(batch.numbers, positions, sigma, bridge)
    losses = denoising_loss(batch.numbers, denoised, batch.positions, sigma, settings.pair_weight)
    state.optimizer.zero_grad()
    losses.mean().backward()
    torch.nn.utils.clip_grad_norm_(state.model.parameters(), settings.clip)
    for group in state.optimizer.param_groups:
        group["lr"] = settings.learning_rate_at(state.step)
    state.optimizer.step()
    state.step += 1
    decay = min(settings.ema, state.step / (state.step + 10))
    with torch.no_grad():
        for average, value in zip(state.ema.parameters(), state.model.parameters(), strict=True):
            average.lerp_(value, 1 - decay)
    return _by_level(losses.detach(), sigma, bridge)


def displace(
    batch: Batch, scales: DenoiserConfig, settings: TrainingConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Displace the minima of a batch, by Gaussian noise or along the bridge.

    Returns
    -------
    positions : (n_molecules, n_atoms, 3) tensor, Å
    sigma : (n_molecules,) tensor, Å
        Size of each displacement.
    bridge : (n_molecules,) bool tensor
    """
    device = batch.numbers.device
    kind, far, along, level = torch.rand(4, len(batch.numbers), generator=generator).to(device)
    bridge = (kind < settings.bridge_fraction) & batch.has_start
    fraction = torch.where(far < settings.bridge_full, 1.0, along.clamp(min=0.02))
    span = math.log(scales.sigma_max / scales.sigma_min)
    gaussian = scales.sigma_min * torch.exp(span * level)
    sigma = torch.where(bridge, fraction * scales.sigma_bridge, gaussian)
    spread = torch.where(bridge, settings.bridge_noise * sigma, sigma)
    noise = centred_noise(batch.numbers > 0, generator)
    towards = torch.where(bridge, fraction, 0.0)[:, None, None]
    positions = torch.lerp(batch.positions, batch.starts, towards)
    return positions + spread[:, None, None] * noise, sigma, bridge


def validate(ema: Denoiser, validation_set: GeometrySet, config: ModelConfig) -> dict[str, float]:
    """Relax validation molecules from their force-field geometries; return median errors."""
    settings = config.training
    usable = validation_set.same_basin(settings.max_start_rmsd, settings.max_start_torsion)
    chosen = np.random.default_rng(0).permutation(np.flatnonzero(usable))
    chosen = chosen[: settings.validation_molecules]
    batch = collate(validation_set, chosen, usable)
    device = next(ema.parameters()).device
    relaxed = relax_positions(
        ema, batch.numbers.to(device), batch.starts.to(device), config.relaxation
    )
    errors = []
    for numbers, positions, reference in zip(
        batch.numbers.numpy(), relaxed.cpu().numpy(), batch.positions.numpy(), strict=True
    ):
        real = numbers > 0
        errors.append(geometry_errors(numbers[real], positions[real], reference[real]))
    return {
        "rmsd_A": float(np.nanmedian([e.rmsd for e in errors])),
        "bonds_mA": 1e3 * float(np.nanmedian([e.bonds for e in errors])),
        "angles_mA": 1e3 * float(np.nanmedian([e.angles for e in errors])),
    }


def save_weights(
    model: Denoiser, path: Path, config: ModelConfig, state: TrainingState, dtype: torch.dtype
) -> None:
    """Write weights with the configuration in their metadata."""
    tensors = {name: p.to(dtype) for name, p in model.named_parameters()}
    metadata = {
        "config": config.model_dump(mode="json"),
        "step": state.step,
        "seconds": round(state.seconds, 1),
    }
    save_tensors(tensors, path, metadata)


class TrainingLog:
    """``training.csv``: a row for each interval, means over the steps since the last one."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self.sums: dict[str, float] = {}
        kept = []
        if path.exists():
            with path.open(newline="") as file:
                kept = [row for row in csv.DictReader(file) if int(row["step"]) <= step]
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(kept)

    def add(self, sums: dict[str, float]) -> None:
        """Count one step."""
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def write(
        self, state: TrainingState, epoch: float, rate: float, errors: dict[str, float]
    ) -> dict[str, object]:
        """Append a row and begin the next interval; return the row."""
        sums, self.sums = self.sums, {}
        row: dict[str, object] = {
            "step": state.step,
            "seconds": round(state.seconds, 1),
            "epoch": round(epoch, 3),
            "learning_rate": f"{rate:.3e}",
        }
        for name in ("loss", *LOSSES):
            if count := sums.get(f"n_{name}"):
                row[name] = f"{sums[name] / count:.5f}"
        row |= {name: f"{value:.4f}" for name, value in errors.items()}
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS).writerow(row)
        return row


def _by_level(losses: Tensor, sigma: Tensor, bridge: Tensor) -> dict[str, float]:
    edges = torch.tensor(LEVEL_EDGES, device=sigma.device)
    bins = torch.where(bridge, len(LEVEL_EDGES) + 1, torch.bucketize(sigma, edges))
    sums = torch.zeros(len(LOSSES), device=sigma.device).index_add(0, bins, losses).tolist()
    counts = torch.bincount(bins, minlength=len(LOSSES)).tolist()
    result = {"loss": sum(sums), "n_loss": float(len(losses))}
    for name, total, count in zip(LOSSES, sums, counts, strict=True):
        result |= {name: total, f"n_{name}": float(count)}
    return result


def _batches(
    geometries: GeometrySet, usable: np.ndarray, settings: TrainingConfig, step: int
) -> Iterator[Batch]:
    per_epoch = len(geometries) // settings.batch_size
    epoch, skip = divmod(step, per_epoch)
    while True:
        batches = epoch_batches(geometries.sizes, settings.batch_size, settings.seed, epoch)
        for i, molecules in enumerate(batches):
            if i >= skip:
                yield collate(geometries, molecules, usable)
        epoch, skip = epoch + 1, 0
