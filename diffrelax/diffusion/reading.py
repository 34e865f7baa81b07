"""How far a start is from its minimum, and how far an end may be, read off the denoiser itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, field_validator, model_validator
from torch import Tensor

from diffrelax.diffusion.denoiser import Denoiser
from diffrelax.diffusion.schedule import RelaxationSchedule, denoise_as, relax_positions
from diffrelax.entries import Entries
from diffrelax.errors import InputError
from diffrelax.network.network import Context

# Found with relax-qm9-2 on validation molecules (analysis/readings.py), and tried at three levels
# with relax-reach-2: 2 of 6,535 and 1 of 947 minima read FAR or more at WIDE; of 1,000 and 3,000
# that are stretched or shrunk by 3% to 8%, none and 3 read as near; of their ends, none and 3 read
# LOST or more.
WIDE = 0.08  # Å
FAR = 0.035  # Å
LOST = 0.08  # Å


class ErrorBound(Entries):
    """Bound on an error: ``scale · sign ** exponent``, kept by nine in ten molecules.

    That is, of those that start in the basin of their minimum; no geometry tells whether it does.

    Attributes
    ----------
    scale, exponent : float
        For the bound, an aligned root mean square deviation, in Å.
    """

    scale: PositiveFloat
    exponent: NonNegativeFloat

    def __call__(self, sign: Tensor) -> Tensor:
        """Bound the errors of molecules, (n_molecules,), Å."""
        return self.scale * sign**self.exponent


class Calibration(Entries):
    """What readings mean for a trained denoiser, found on validation molecules.

    The reading of a geometry is the root mean square, over its coordinates, of the step to the
    minimum that the denoiser sees from it at the last level of the schedule. It tells how far
    bonds and angles are off, and hardly sees a torsion: the denoiser's own ends read as minima do.
    Nor does it see what is off by many times that level; a reading at `WIDE` does.

    Attributes
    ----------
    settled : float, Å
        Reading below which a start is left as it is, if no atom alone reads `near` or more: at
        most nine in ten reference minima read less.
    near : float, Å
        Reading below which the polish is enough, and from which a start is relaxed along the whole
        schedule: at most one in fifty starts of any level that was trained on reads less.
    unseen : ErrorBound
        Of what is not relaxed along the whole schedule: nine in ten of the schedule's own ends, to
        which the denoiser sees as little to correct, are closer to their minimum. Its sign is the
        number of atoms; of the first releases, one number holds for all.
    after_schedule : ErrorBound
        Of starts at the first level that the network knows. Its sign is the correction, in Å, see
        `follow`.
    after_starts : dict of str to ErrorBound
        Of starts at its other levels. Its sign is the number of atoms.
    """

    settled: PositiveFloat
    near: PositiveFloat
    unseen: ErrorBound
    after_schedule: ErrorBound
    after_starts: dict[str, ErrorBound] = Field(
        default_factory=dict, exclude_if=lambda known: not known
    )

    @field_validator("unseen", mode="before")
    @classmethod
    def _of_the_first_releases(cls, value: Any) -> Any:
        return {"scale": value, "exponent": 0.0} if isinstance(value, float) else value

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.settled > self.near:
            raise InputError("settled must not be larger than near")
        return self


@dataclass(frozen=True, eq=False)
class Relaxed:
    """A batch of relaxed geometries.

    Attributes
    ----------
    positions : (n_molecules, n_atoms, 3) tensor, Å
    noise_level : (n_molecules,) tensor, Å
        First level that was used; 0 where the start was left as it is.
    n_evaluations : (n_molecules,) int tensor
        Of the network.
    error_bound : (n_molecules,) tensor, Å
        Aligned root mean square deviation from the minimum that nine in ten molecules of
        each level of starts stay below, of those that start in its basin.
    lost : (n_molecules,) bool tensor
        Whether the way led from an unknown start to where the denoiser sees no minimum nearby.
    """

    positions: Tensor
    noise_level: Tensor
    n_evaluations: Tensor
    error_bound: Tensor
    lost: Tensor


class Route(NamedTuple):
    """How geometries of one kind are relaxed.

    Attributes
    ----------
    schedule : RelaxationSchedule
    bound : ErrorBound, optional
        None where nothing is known of the error.
    """

    schedule: RelaxationSchedule
    bound: ErrorBound | None


@torch.no_grad()
def relax_by_reading(
    denoiser: Denoiser,
    numbers: Tensor,
    positions: Tensor,
    routes: Sequence[Route],
    calibration: Calibration | None,
    start: Tensor,
    context: Context | None = None,
    settle: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
) -> Relaxed:
    """Relax each geometry of a batch as far as its reading asks for.

    A reading hardly sees torsions. What reads as near is polished where there is one route alone,
    else led to a start.

    Parameters
    ----------
    denoiser, numbers, positions
        As in :func:`relax_positions`.
    routes : sequence of Route
        From each level of starts that the network knows; the first is taken from elsewhere too.
    calibration : Calibration, optional
        Of the denoiser with the first route. Without it nothing is read, and all follow a route.
    start : (n_molecules,) int tensor
        Place of the route, for what is known to be far from a minimum; -1 where a geometry is read.
    context : Context, optional
        Default: neutral molecules at the only level of theory.
    settle : callable, optional
        Leads what reads as far to where a route begins: called with a mask of these molecules and
        all positions; returns all positions, theirs changed, and the places of their routes.
    """
    unread = (start >= 0) | (calibration is None)
    start = start.clamp(min=0)
    far, near, ends = unread.clone(), torch.zeros_like(unread), positions.clone()
    bound = torch.full_like(positions[:, 0, 0], math.nan)
    sizes = (numbers > 0).sum(1).to(bound)
    levels = torch.zeros_like(bound, dtype=torch.float64)
    n_evaluations = torch.zeros_like(start, dtype=torch.int32)
    if calibration and not unread.all():
        polish = RelaxationSchedule(bridge=(), polish=routes[0].schedule.polish)
        given = numbers[~unread], positions[~unread]
        about = _of(context, ~unread)
        wide, _ = read(denoiser, *given, WIDE, about)
        reading, estimates = read(denoiser, *given, polish.polish[-1], about)
        far[~unread] = ~((reading < calibration.near) & (wide < FAR))  # also where one is NaN
        worst = atomwise(estimates - positions[~unread]).amax(1)
        near[~unread] = (reading >= calibration.settled) | (worst >= calibration.near)
        if len(routes) > 1:  # a better start is known than any that is off by torsions alone
            far |= near
        near &= ~far
        if near.any():
            ends[near] = relax_positions(
                denoiser, numbers[near], positions[near], polish, context=_of(context, near)
            )
        bound[~far] = calibration.unseen(sizes[~far])
        levels[near] = polish.first
        n_evaluations += 2 * (~unread).int() + polish.n_evaluations * near.int()
        if settle and (far & ~unread).any():
            positions, start = settle(far & ~unread, positions)
    for place, (schedule, after) in enumerate(routes):
        chosen = far & (start == place)
        if chosen.any():
            about = _of(context, chosen)
            about = about and about._replace(start=torch.full_like(about.start, place))
            ends[chosen], correction = follow(
                denoiser, numbers[chosen], positions[chosen], schedule, about
            )
            sign = sizes[chosen] if place else correction
            bound[chosen] = after(sign) if after else math.nan
            levels[chosen] = schedule.first
            n_evaluations[chosen] += schedule.n_evaluations
    lost, doubted = torch.zeros_like(unread), far & ~unread
    if doubted.any():
        wide, _ = read(denoiser, numbers[doubted], ends[doubted], WIDE, _of(context, doubted))
        lost[doubted] = ~(wide < LOST)
        n_evaluations += doubted.int()
    return Relaxed(ends, levels, n_evaluations, bound, lost)


def follow(
    denoiser: Denoiser,
    numbers: Tensor,
    positions: Tensor,
    schedule: RelaxationSchedule,
    context: Context | None = None,
) -> tuple[Tensor, Tensor]:
    """Relax a batch along a schedule, and measure how much was corrected on the way.

    Returns
    -------
    ends : (n_molecules, n_atoms, 3) tensor, Å
    correction : (n_molecules,) tensor, Å
        Root mean square distance from the first estimate of the minimum to the end.
    """
    estimates: list[Tensor] = []
    ends = relax_positions(denoiser, numbers, positions, schedule, estimates.append, context)
    return ends, root_mean_square(ends - (estimates or [ends])[0], numbers)


def _of(context: Context | None, chosen: Tensor) -> Context | None:
    return context and Context(*(part[chosen] for part in context))


def read(
    denoiser: Denoiser,
    numbers: Tensor,
    positions: Tensor,
    level: float,
    context: Context | None = None,
) -> tuple[Tensor, Tensor]:
    """Take the reading of each geometry of a batch at a noise level, Å.

    Returns
    -------
    reading : (n_molecules,) tensor, Å
    estimates : (n_molecules, n_atoms, 3) tensor, Å
        Of the minima, behind the readings.
    """
    denoise = denoise_as(denoiser, numbers, bridge=False, context=context)
    estimates = denoise(positions, level)
    return root_mean_square(estimates - positions, numbers), estimates


def root_mean_square(displacements: Tensor, numbers: Tensor) -> Tensor:
    """Average displacements over the coordinates of each molecule, (n_molecules,), Å."""
    return (displacements.square().sum((1, 2)) / (3 * (numbers > 0).sum(1))).sqrt()


def atomwise(displacements: Tensor) -> Tensor:
    """Average displacements over the coordinates of each atom, (n_molecules, n_atoms), Å."""
    return displacements.square().mean(2).sqrt()
