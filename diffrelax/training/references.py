"""Reference relaxations saved with a network, to check that it still gives the same results."""

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

TOLERANCE = 1e-3  # Å; over a hundred times the differences between processors or torch versions

Positions = tuple[tuple[float, float, float], ...]


class Reference(Entries):
    """A small molecule before and after relaxation by a network.

    Attributes
    ----------
    numbers : tuple of int
        Atomic numbers.
    level : int
        Index of the level of theory among those of the network.
    charge : int
    start, end : tuple of (float, float, float), Å
        Positions before and after the relaxation.
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
    """Relax molecules from their starts, and return them as references."""
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
    """Return the largest distance of an atom from its position in the references, Å.

    NaN if the network returns NaN or does not know the molecules.
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
