"""Relaxation of molecules in batches: choice of schedule and calibration, and positions."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffrelax.clock import Time, timed
from diffrelax.diffusion.reading import Calibration, Route, relax_by_reading
from diffrelax.diffusion.schedule import RelaxationSchedule
from diffrelax.errors import InputError, each_or_error
from diffrelax.models.release import Model
from diffrelax.models.starts import first_starts, place_of_start, settled
from diffrelax.models.symmetry import with_symmetry, without_symmetry
from diffrelax.molecule import Molecule

PAIRS_IN_BATCH = 40_000  # bounds memory


def choose_schedule(model: Model, noise_level: float | None) -> RelaxationSchedule:
    """Return the noise levels of a relaxation.

    Parameters
    ----------
    model : Model
    noise_level : float, optional, Å
        First of several Gaussian levels that fall to the model's last one, by at most half each.
        Default: the model's own schedule.

    Raises
    ------
    ValueError
        If the level is outside the range that the model was trained on, or if none is given for a
        generating model.
    """
    if noise_level is None:
        if model.config.generation:
            raise InputError(
                f"{model.name} generates molecules: use another model, or give a noise level"
            )
        return model.config.relaxation
    low, high = model.config.denoiser.sigma_min, model.config.denoiser.sigma_max
    if not low <= noise_level <= high:
        raise InputError(f"noise level {noise_level} Å: the model supports {low} to {high} Å")
    last = model.config.relaxation.polish[-1]
    halvings = math.ceil(math.log2(noise_level / last))
    levels = (noise_level, *(last * (noise_level / last) ** (i / halvings)
                             for i in reversed(range(halvings))))  # fmt: skip
    return RelaxationSchedule(bridge=(), polish=levels)


def choose_calibration(
    model: Model, level: str, noise_level: float | None, max_error: float
) -> Calibration | None:
    """Return the calibration of the model at a level of theory that it has learned.

    None if a noise level is given, or if there is no calibration.

    Raises
    ------
    ValueError
        If ``max_error`` is not positive, or is given without a calibration.
    """
    if not max_error > 0:
        raise InputError(f"max_error {max_error} Å: give a positive number")
    calibration = model.config.calibrations.get(level) if noise_level is None else None
    if calibration is None and max_error < math.inf:
        why = (
            f"{model.name} has no error bounds at {level}: leave out max_error, or use "
            "another model"
            if noise_level is None
            else "there are no error bounds with a given noise level: leave out one of the two"
        )
        raise InputError(f"max_error {max_error} Å: {why}")
    return calibration


def batch_size(n_atoms: int) -> int:
    """Return how many molecules of a size are evaluated at once."""
    return max(1, PAIRS_IN_BATCH // n_atoms**2)


def batches(molecules: Mapping[Any, Molecule]) -> Iterator[list[Any]]:
    """Split the keys of molecules into batches of similar size, the smallest molecules first."""
    batch: list[Any] = []
    for key in sorted(molecules, key=lambda key: molecules[key].n_atoms):
        if batch and len(batch) >= batch_size(molecules[key].n_atoms):
            yield batch
            batch = []
        batch.append(key)
    if batch:
        yield batch


def relax_batches(
    starts: Sequence[Sequence[Molecule]],
    model: Model,
    level: str,
    routes: Mapping[str, Route],
    calibration: Calibration | None,
) -> Generator[tuple[list[End | Exception], Time]]:
    """Relax batches one after another, or on a CPU several in parallel, each in one thread.

    The network's matrix products are too small to be divided among threads.

    Parameters
    ----------
    starts : sequence of sequence of Molecule
        Molecules of each batch.
    model, level, routes, calibration
        See `relax_batch`.

    Yields
    ------
    list of End or Exception
        Result of each molecule, or the internal error that it failed with.
    Time
        Time of the batch; of its thread if batches run in parallel.
    """

    def relax(batch: Sequence[Molecule]) -> list[End | Exception]:
        return each_or_error(
            lambda some: relax_batch(some, model, level, routes, calibration), batch
        )

    def relax_in_time(batch: Sequence[Molecule]) -> tuple[list[End | Exception], Time]:
        begun = Time.of_thread()
        return relax(batch), Time.of_thread() - begun

    threads = torch.get_num_threads() if model.device.type == "cpu" else 1
    if min(threads, len(starts)) <= 1:
        yield from timed(map(relax, starts))
        return
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield from pool.map(relax_in_time, starts)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # the initializer changed it for all threads in part


class End(NamedTuple):
    """Result for one molecule: positions, (n_atoms, 3), Å, and the rest as in `Relaxed`.

    ``start`` is the geometry given to the network: the input, maybe relaxed at a cheap level.
    """

    positions: np.ndarray
    noise_level: float
    n_evaluations: int
    error_bound: float
    lost: bool
    start: Molecule


def relax_batch(
    molecules: Sequence[Molecule],
    model: Model,
    level: str,
    routes: Mapping[str, Route],
    calibration: Calibration | None,
) -> list[End]:
    """Relax molecules that a model covers in one batch.

    Parameters
    ----------
    molecules : sequence of Molecule
    model : Model
    level : str
        Level of theory that the model has learned.
    routes : mapping of str to Route
        See `diffrelax.models.starts.choose_routes`.
    calibration : Calibration, optional
        Without it, no start is read, see `relax_by_reading`.
    """
    known = tuple(routes)
    starts = first_starts(molecules, model, known)
    numbers = torch.zeros(len(starts), max(m.n_atoms for m in starts), dtype=torch.int64)
    positions = torch.zeros(*numbers.shape, 3)
    centres = [m.positions.mean(axis=0) for m in starts]
    for i, (molecule, centre) in enumerate(zip(starts, centres, strict=True)):
        numbers[i, : molecule.n_atoms] = torch.tensor(molecule.numbers)
        positions[i, : molecule.n_atoms] = torch.tensor(without_symmetry(molecule) - centre)
    places = torch.tensor([place_of_start(molecule, model, known) for molecule in starts])
    context = model.context([m.charge for m in starts], level)
    numbers, positions, places = (x.to(model.device) for x in (numbers, positions, places))

    def settle(far: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        positions, found = positions.clone(), places.clamp(min=0)
        chosen = far.nonzero().flatten().tolist()
        nearby = settled([starts[i] for i in chosen], model, known)
        for i, starts[i] in zip(chosen, nearby, strict=True):
            moved = torch.tensor(without_symmetry(starts[i]) - centres[i])
            positions[i, : len(moved)] = moved.to(positions)
            found[i] = max(0, place_of_start(starts[i], model, known))
        return positions, found

    relaxed = relax_by_reading(
        model.denoiser,
        numbers,
        positions,
        list(routes.values()),
        calibration,
        places,
        context,
        settle,
    )
    columns = (
        relaxed.positions.cpu().double().numpy(),
        relaxed.noise_level.tolist(),
        relaxed.n_evaluations.tolist(),
        relaxed.error_bound.tolist(),
        relaxed.lost.tolist(),
        starts,
    )
    return [
        End(with_symmetry(molecule, ends[: molecule.n_atoms] + centre), *rest)
        for molecule, centre, ends, *rest in zip(molecules, centres, *columns, strict=True)
    ]
