"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from itertools import count
from pathlib import Path
from signal import SIGINT, SIGTERM, default_int_handler, getsignal, signal
from threading import Event, current_thread, main_thread
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm.auto import tqdm

from diffrelax.atomic import claimed
from diffrelax.clock import Time
from diffrelax.diffusion.denoiser import Denoiser
from diffrelax.errors import InputError
from diffrelax.training.calibration import calibrate_levels
from diffrelax.training.config import ModelConfig, TrainingConfig
from diffrelax.training.devices import own_device
from diffrelax.training.geometries import Batch, GeometrySet, collate
from diffrelax.training.learned import learned_after, learned_from
from diffrelax.training.log import LOG, VALIDATION_LOG, begin_log, write_row
from diffrelax.training.objectives import Objective
from diffrelax.training.order import epoch_batches
from diffrelax.training.ranks import Ranks, joined_ranks
from diffrelax.training.references import choose_references, make_references
from diffrelax.training.state import RESUME, WEIGHTS, TrainingState, going_on, save_tensors
from diffrelax.training.step import start_state, training_step
from diffrelax.training.validation import validate

CHECKPOINTS = "checkpoints"


def train(
    config: ModelConfig,
    folder: Path,
    train_set: GeometrySet,
    validation_set: GeometrySet,
    *,
    device: str = "cpu",
    max_minutes: float = math.inf,
    resume: bool = False,
    base: Denoiser | None = None,
    compiled: bool = False,
    environments: Mapping[str, int] | None = None,
) -> TrainingState:
    """Train a model, or resume its training.

    Writes ``training.csv``, ``resume.safetensors`` and ``checkpoints/`` to ``folder``, and
    ``model.safetensors`` at the end or when the time is up. Ctrl-C, or SIGTERM if it is handled
    like Ctrl-C, stops the run after the current step and saves its state. After any other
    interruption, a resumed run repeats the steps since the last saved state. The result is
    bitwise identical on the same processor with the same number of threads.

    Parameters
    ----------
    config : ModelConfig
        Its ``learned`` entry describes the base model.
    folder : path
    train_set, validation_set : GeometrySet
    device : str
    max_minutes : float
        Stop and save after this time.
    resume : bool
        Resume the run in ``folder``, if there is one.
    base : Denoiser, optional
        Denoiser with the initial weights. Default: random weights.
    compiled : bool
        Compile the network with `torch.compile`: the beginning is slower, the steps are faster, and
        the results differ by rounding errors.
    environments : mapping of str to int, optional
        Atomic environments in the training data of this model and its base, saved with the weights.

    Raises
    ------
    ValueError
        If there is an earlier run in ``folder`` and ``resume`` is false; if its state is missing,
        damaged or of another configuration or data set; if another process trains there; if
        parallel processes read different states or outnumber the molecules of a batch; or if the
        data have fewer molecules than a batch, elements that the network lacks, or a level of
        theory other than that of the configuration.
    UnfinishedError
        If the gradient is no longer finite.
    KeyboardInterrupt
        If the run was stopped; its state has been saved.
    """
    check_folder(folder, resume)
    if len(train_set) < config.training.batch_size:
        raise InputError(
            f"batches of {config.training.batch_size} molecules need at least as many in "
            f"training, and there are {len(train_set)}: reduce training.batch_size"
        )
    found = np.union1d(train_set.numbers, validation_set.numbers)
    unknown = np.setdiff1d(found, config.network.elements)
    if len(unknown):
        raise InputError(
            f"the data have the atomic numbers {', '.join(map(str, unknown))}, which the "
            "network lacks: add them to network.elements"
        )
    train_set, validation_set = (
        one.known_as(config.network.levels).starting_at(config.network.starts)
        for one in (train_set, validation_set)
    )
    if not config.network.levels and train_set.levels not in ((), (config.level,)):
        raise InputError(
            f"the data have the level {train_set.levels[0]}, the configuration has "
            f"{config.level}: use the same name, or set network.levels"
        )
    known = config.learned
    if known or not config.training.base:  # else it is unknown what the base has learned
        new = learned_from(train_set, config.level)
        all_weights = config.training.learn == "all"
        learned = learned_after(known, new, all_weights=all_weights)
        config = config.model_copy(update={"learned": learned})
    own = own_device(device)
    with joined_ranks(own) as ranks, nullcontext() if ranks.rank else locked(folder):
        state = start_state(config, own, train_set.fingerprint, base)
        if compiled:
            _compile(state, ranks)
        about = {} if environments is None else {"environments": dict(environments)}
        return _train(config, folder, train_set, validation_set, max_minutes, state, ranks, about)


def check_folder(folder: Path, resume: bool) -> None:
    """Check that a run can begin or resume in a folder, before the data are loaded.

    Raises
    ------
    ValueError
        If it has an earlier run and ``resume`` is false, or a run without its state, or is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: give a folder")
    products = (RESUME, LOG, VALIDATION_LOG, WEIGHTS, CHECKPOINTS)
    found = [folder / name for name in products if (folder / name).exists()]
    if found and not resume:
        raise InputError(
            f"{found[0]} is from an earlier run: resume it with {going_on(folder)}, or copy "
            "config.yaml and its data to a new folder"
        )
    if found and not (folder / RESUME).exists():
        raise InputError(
            f"{found[0]} is from a run without its {RESUME}: copy config.yaml and its data "
            "to a new folder"
        )


def _train(
    config: ModelConfig,
    folder: Path,
    train_set: GeometrySet,
    validation_set: GeometrySet,
    max_minutes: float,
    state: TrainingState,
    ranks: Ranks,
    about: Mapping[str, Any],
) -> TrainingState:
    settings, first = config.training, ranks.rank == 0
    if (folder / RESUME).exists():
        state.load(folder / RESUME)
    elif first:
        state.save(folder / RESUME)
    if not ranks.agree_on(state.step, state.device):
        raise InputError(
            f"processes would resume from different steps: {folder} must be shared by all machines"
        )
    config = config.model_copy(update={"learned": state.learned})
    if first:
        begin_log(folder, state.step)
    objective = _objective(state, settings, ranks)
    usable = settings.in_basin(train_set.start_rmsd, train_set.start_torsion)
    batches = _batches(train_set, usable, settings, state.step)
    earlier, begun, deadline = state.time, Time.now(), time.monotonic() + 60 * max_minutes
    bar = tqdm(
        total=settings.steps, initial=state.step, unit="step", disable=None if first else True
    )
    with _signals_heard() as stop:
        while state.step < settings.steps and _goes_on(deadline, stop, state, ranks):
            epoch, batch = next(batches)
            losses = training_step(state, batch.to(state.device), settings, objective, ranks)
            state.sums = {key: state.sums.get(key, 0.0) + value for key, value in losses.items()}
            state.time = earlier + ranks.time_of_all(Time.now() - begun, state.device)
            bar.update()
            if first:
                _keep(config, folder, validation_set, state, epoch, about)
        bar.close()
        if first:
            state.save(folder / RESUME)
    if stop.is_set():
        raise KeyboardInterrupt
    if first and state.step:
        usable = settings.in_basin(validation_set.start_rmsd, validation_set.start_torsion)
        calibrations = calibrate_levels(state.ema, validation_set, usable, config)
        released = config.model_copy(update={"calibrations": config.calibrations | calibrations})
        from_first = np.flatnonzero(validation_set.start_level == 0)
        molecules = choose_references(validation_set.select(from_first)).to(state.device)
        references = make_references(state.ema, molecules, config.relaxation)
        known = {**about, "references": [one.model_dump() for one in references]}
        save_weights(state.ema, folder / WEIGHTS, released, state, torch.float32, known)
    return state


def _compile(state: TrainingState, ranks: Ranks) -> None:
    state.model.network.compile_parts()
    if ranks.world > 1:
        from torch._dynamo import config  # takes a second to import

        # else graphs are split at the gradient buckets, and the parts fail with dynamic shapes;
        # layers are compiled one by one, so that communication still overlaps with the computation
        config.optimize_ddp = False


def _objective(state: TrainingState, settings: TrainingConfig, ranks: Ranks) -> nn.Module:
    objective = Objective(state.model, settings)
    return DistributedDataParallel(objective) if ranks.world > 1 else objective


@contextmanager
def _signals_heard() -> Iterator[Event]:
    """Set an event on signals that would otherwise raise KeyboardInterrupt."""
    stop = Event()

    def hear(number: int, frame: FrameType | None) -> None:
        stop.set()

    as_ctrl_c = [n for n in (SIGINT, SIGTERM) if getsignal(n) is default_int_handler]
    heard = as_ctrl_c if current_thread() is main_thread() else []  # only it can set handlers
    for number in heard:
        signal(number, hear)
    try:
        yield stop
    finally:
        for number in heard:
            signal(number, default_int_handler)


def _goes_on(deadline: float, stop: Event, state: TrainingState, ranks: Ranks) -> bool:
    """Return whether to continue; the same in all processes, so that they stop at the same step.

    They stop if any of them has received a signal or is past its deadline.
    """
    own = {"stop": float(stop.is_set()), "late": float(time.monotonic() >= deadline)}
    of_all = ranks.add_up(own, state.device)
    if of_all["stop"]:
        stop.set()
    return not any(of_all.values())


def _keep(
    config: ModelConfig,
    folder: Path,
    validation_set: GeometrySet,
    state: TrainingState,
    epoch: float,
    about: Mapping[str, Any],
) -> None:
    """Validate and write the files that are due after a step."""
    settings = config.training
    validated = state.step % settings.validate_every == 0
    if validated or state.step % settings.log_every == 0:
        errors = validate(state.ema, validation_set, config) if validated else []
        write_row(folder, state, epoch, settings.learning_rate_at(state.step - 1), errors)
    if state.step in settings.checkpoint_steps():
        checkpoint = folder / CHECKPOINTS / f"step-{state.step}.safetensors"
        save_weights(state.ema, checkpoint, config, state, torch.float16, about)
    if state.step % settings.save_every == 0:
        state.save(folder / RESUME)


def save_weights(
    model: Denoiser,
    path: Path,
    config: ModelConfig,
    state: TrainingState,
    dtype: torch.dtype,
    about: Mapping[str, Any],
) -> None:
    """Write weights, with the configuration and other entries in the metadata."""
    tensors = {name: p.to(dtype) for name, p in model.named_parameters()}
    metadata = {
        "config": config.model_dump(mode="json"),
        "step": state.step,
        **state.seconds(),
        **about,
    }
    save_tensors(tensors, path, metadata)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Create a folder and lock it against other runs.

    Raises
    ------
    ValueError
        If another run uses it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with claimed(folder / ".lock", folder):
        yield


def _batches(
    geometries: GeometrySet, usable: np.ndarray, settings: TrainingConfig, step: int
) -> Iterator[tuple[float, Batch]]:
    """Yield, from a step on, the epoch at the end of each step (a float), and its batch."""
    skip = step
    for epoch in count():
        batches = epoch_batches(
            geometries.sizes,
            geometries.level,
            settings.batch_size,
            settings.balance,
            settings.seed,
            epoch,
        )
        for i, molecules in enumerate(batches[skip:], start=skip + 1):
            yield epoch + i / len(batches), collate(geometries, molecules, usable)
        skip = max(0, skip - len(batches))
