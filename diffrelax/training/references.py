"""Molecules that a network relaxed when it was written, to see whether it still does the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from diffrelax.diffusion.denoiser import Denoiser
from diffrelax.diffusion.schedule import RelaxationSchedule, relax_positions
from diffrelax.entries import Entries
from diffrelax.network.network import Context
from diffrelax.training.geometries import Batch, GeometrySet, collate

TOLERANCE = 1e-3  # Å; processors and versions of torch differ by less than a hundredth of it

Positions = tuple[tuple[float, float, float], ...]


class Reference(Entries):
    """A small molecule, and where a network takes it.

    Attributes
    ----------
    numbers : tuple of int
        Atomic numbers.
    level : int
        Place of the level of theory among those of the network.
    charge : int
    start, end : tuple of (float, float, float), Å
        Before and after the relaxation schedule.
    """

    numbers: tuple[int, ...]
    level: int
    charge: int
    start: Positions
    end: Positions


def choose_references(geometries: GeometrySet) -> Batch:
    """Return the smallest molecule of a set at each level of theory, as a batch."""
    by_size = np.argsort(geometries.sizes, kind="stable")
    _, first = np.unique(geometries.level[by_size], return_index=True)
    return collate(geometries, by_size[first], np.ones(len(geometries), bool))


def make_references(
    denoiser: Denoiser, molecules: Batch, schedule: RelaxationSchedule
) -> list[Reference]:
    """Relax molecules from their starts, and keep where they end."""
    given = molecules.numbers, molecules.starts
    ends = relax_positions(denoiser, *given, schedule, context=molecules.context)
    return [
        Reference(
            numbers=tuple(numbers[numbers > 0].tolist()),
            level=int(level),
            charge=int(charge),
            start=_rounded(start[numbers > 0]),
            end=_rounded(end[numbers > 0]),
        )
        for numbers, start, end, level, charge in zip(
            *given, ends, molecules.context.level, molecules.context.charge, strict=True
        )
    ]


def deviation(
    denoiser: Denoiser, references: Sequence[Reference], schedule: RelaxationSchedule
) -> float:
    """Return the largest distance of an atom from where it ended before, Å.

    NaN if the network no longer gives numbers, or does not know the molecules.
    """
    device = next(denoiser.parameters()).device
    level = torch.tensor([one.level for one in references], device=device)
    charge = torch.tensor([one.charge for one in references], device=device)
    context = Context(level, charge, torch.zeros_like(charge))
    numbers, starts, ends = (
        pad_sequence([torch.tensor(value) for value in values], batch_first=True).to(device)
        for values in zip(*((one.numbers, one.start, one.end) for one in references), strict=True)
    )
    try:
        found = relax_positions(denoiser, numbers, starts, schedule, context=context)
        return float((found - ends).norm(dim=-1).max())
    except (IndexError, RuntimeError):
        return float("nan")


def _rounded(positions: torch.Tensor) -> Positions:
    return tuple((round(x, 5), round(y, 5), round(z, 5)) for x, y, z in positions.tolist())
