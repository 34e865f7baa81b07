"""How the time of one evaluation of the network grows with the number of atoms, and its floor."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from diffrelax.models.batches import batch_size
from diffrelax.models.release import Model

SIZES = (5, 10, 20, 50, 100, 200, 300)
BATCHES = (1, 256)
SPACING = 2.0  # Å; cube root of the volume of an atom
MATRIX = 2048  # rows and columns of the products whose rate is measured
REPEATS, ENOUGH = 5, 2.0  # times, or seconds


@dataclass(frozen=True)
class ScalingRow:
    """One evaluation of the network for molecules of one size.

    Parameters
    ----------
    n_atoms : int
    batch : int
        Molecules in one call, which is divided as a relaxation divides it.
    milliseconds : float
        Wall time for each molecule.
    floor_milliseconds : float
        What the matrix products of the evaluation alone take for each molecule at the measured rate
        of large ones.
    """

    n_atoms: int
    batch: int
    milliseconds: float
    floor_milliseconds: float


def scaling(model: Model, rate: float) -> Iterator[ScalingRow]:
    """Measure the network on random geometries, from small molecules to large ones.

    Atoms are as dense as in a liquid, so a large molecule has more neighbours than in vacuum.

    Parameters
    ----------
    model : Model
    rate : float
        From `matrix_product_rate`.
    """
    for n_atoms in SIZES:
        for batch in BATCHES:
            parts = _random_molecules(n_atoms, batch, model.device)
            seconds = median_seconds(partial(_evaluate, model, parts))
            with FlopCounterMode(display=False) as counter:
                _evaluate(model, parts[:1])
            floor = counter.get_total_flops() / rate / len(parts[0][0])
            yield ScalingRow(n_atoms, batch, 1e3 * seconds / batch, 1e3 * floor)


def matrix_product_rate(device: torch.device) -> float:
    """Measure the rate of large products in single precision, floating-point operations/s."""
    matrix = torch.rand(MATRIX, MATRIX, device=device)
    return 2 * MATRIX**3 / median_seconds(lambda: (matrix @ matrix)[0, 0].item())


def median_seconds(work: Callable[[], object]) -> float:
    """Return the median wall time of a few runs after a first one that does not count."""
    work()
    seconds: list[float] = []
    while len(seconds) < REPEATS and sum(seconds) < ENOUGH:
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def _random_molecules(
    n_atoms: int, batch: int, device: torch.device
) -> tuple[tuple[Tensor, Tensor], ...]:
    """Return numbers and positions in batches."""
    generator = torch.Generator().manual_seed(0)
    edge = SPACING * n_atoms ** (1 / 3)
    positions = edge * torch.rand(batch, n_atoms, 3, generator=generator)
    numbers = torch.full((batch, n_atoms), 6)
    size = batch_size(n_atoms)
    parts = (tensor.to(device).split(size) for tensor in (numbers, positions))
    return tuple(zip(*parts, strict=True))


@torch.no_grad()
def _evaluate(model: Model, parts: tuple[tuple[Tensor, Tensor], ...]) -> None:
    for numbers, positions in parts:
        sigma = positions.new_full((len(positions),), 0.05)
        noise = torch.zeros_like(sigma, dtype=torch.bool)
        context = model.context([0] * len(numbers))
        model.denoiser(numbers, positions, sigma, noise, context).sum().item()
