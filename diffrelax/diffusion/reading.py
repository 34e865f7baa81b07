"""Estimates, from the denoiser itself, of the distance of geometries from their minima."""

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

# Chosen with relax-qm9-2 and tested with relax-reach-2 on validation molecules
# (analysis/readings.py): nearly all minima read less than FAR at WIDE, nearly all geometries
# stretched or shrunk by 3% to 8% read more, and nearly all relaxed from these less than LOST.
WIDE = 0.08  # Å
FAR = 0.035  # Å
LOST = 0.08  # Å


class ErrorBound(Entries):
    """Bound ``scale · sign ** exponent`` on the error, which holds for nine in ten molecules.

    It assumes that the start is in the basin of the minimum, which a geometry alone cannot show.

    Attributes
    ----------
    scale, exponent : float
        Parameters of the bound, which is an aligned root mean square deviation, Å.
    """

    scale: PositiveFloat
    exponent: NonNegativeFloat

    def __call__(self, sign: Tensor) -> Tensor:
        """Return the bounds for molecules from a predictor of the error, (n_molecules,), Å."""
        return self.scale * sign**self.exponent


class Calibration(Entries):
    """Thresholds and error bounds for the readings of a denoiser, from validation molecules.

    The reading of a geometry is the root mean square, over its coordinates, of the step to the
    minimum that the denoiser predicts at the last level of the schedule. It measures errors of
    bonds and angles, but hardly those of torsions: relaxed geometries have the readings of minima.
    Errors of many times that noise level are seen only by a second reading, at `WIDE`.

    Attributes
    ----------
    settled : float, Å
        A start with a smaller reading is left unchanged, unless a single atom reads `near` or more:
        at most nine in ten reference minima read less.
    near : float, Å
        A start with a smaller reading is only polished; any other is relaxed along the whole
        schedule. At most one in fifty starts of any level in the training reads less.
    unseen : ErrorBound
        Bound for geometries that are not relaxed along the whole schedule. It is fitted to the ends
        of the schedule, where the denoiser sees as little to correct. Its predictor (``sign``) is
        the number of atoms; in the first releases, the bound is a constant.
    after_schedule : ErrorBound
        Bound for starts at the first level of the network. Its predictor is the correction, Å; see
        `follow`.
    after_starts : dict of str to ErrorBound
        Bounds for starts at the other levels. Their predictor is the number of atoms.
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
        First noise level used; 0 if the start was left unchanged.
    n_evaluations : (n_molecules,) int tensor
        Number of network evaluations.
    error_bound : (n_molecules,) tensor, Å
        Bound on the aligned root mean square deviation from the minimum. It holds for nine in ten
        molecules of each level of starts, if they start in the basin of the minimum.
    lost : (n_molecules,) bool tensor
        Whether an unknown start was relaxed to an end where the denoiser sees no minimum nearby.
    """

    positions: Tensor
    noise_level: Tensor
    n_evaluations: Tensor
    error_bound: Tensor
    lost: Tensor


class Route(NamedTuple):
    """Schedule and error bound for geometries of one kind.

    Attributes
    ----------
    schedule : RelaxationSchedule
    bound : ErrorBound, optional
        None if the error is unknown.
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
    """Relax each geometry of a batch as far as its reading requires.

    Readings hardly depend on torsions. Geometries near a minimum by their reading are therefore
    polished only if there is a single route; otherwise they are first moved to a start.

    Parameters
    ----------
    denoiser, numbers, positions
        As in :func:`relax_positions`.
    routes : sequence of Route
        One for each level of starts that the network knows; the first also serves other starts.
    calibration : Calibration, optional
        Calibration of the denoiser for the first route. Without it, all geometries follow a route.
    start : (n_molecules,) int tensor
        Index of the route for a geometry known to be far from a minimum; -1 to decide by reading.
    context : Context, optional
        Default: neutral molecules at the only level of theory.
    settle : callable, optional
        Moves geometries that are far by their reading to the start of a route. Called with a mask
        of these molecules and all positions; returns all positions and the indices of the routes.
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
        if len(routes) > 1:  # torsions may be wrong: a better start can be made
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
    """Relax a batch along a schedule, and measure the correction.

    Returns
    -------
    ends : (n_molecules, n_atoms, 3) tensor, Å
    correction : (n_molecules,) tensor, Å
        Root mean square deviation of the end from the first estimate of the minimum.
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
    """Return the reading of each geometry of a batch at a noise level, Å; see `Calibration`.

    Returns
    -------
    reading : (n_molecules,) tensor, Å
    estimates : (n_molecules, n_atoms, 3) tensor, Å
        Estimates of the minima.
    """
    denoise = denoise_as(denoiser, numbers, bridge=False, context=context)
    estimates = denoise(positions, level)
    return root_mean_square(estimates - positions, numbers), estimates


def root_mean_square(displacements: Tensor, numbers: Tensor) -> Tensor:
    """Return the RMS displacement per coordinate of each molecule, (n_molecules,), Å."""
    return (displacements.square().sum((1, 2)) / (3 * (numbers > 0).sum(1))).sqrt()


def atomwise(displacements: Tensor) -> Tensor:
    """Return the RMS displacement per coordinate of each atom, (n_molecules, n_atoms), Å."""
    return displacements.square().mean(2).sqrt()
