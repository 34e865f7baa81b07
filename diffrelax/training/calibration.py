"""Calibration of the readings of a trained denoiser on validation molecules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import Self

import numpy as np
import torch

from diffrelax.diffusion.denoiser import Denoiser
from diffrelax.diffusion.reading import Calibration, ErrorBound, follow, read
from diffrelax.diffusion.schedule import RelaxationSchedule, relax_positions
from diffrelax.geometry import superpose
from diffrelax.training.config import ModelConfig
from diffrelax.training.geometries import Batch, GeometrySet, like_batches

# Different molecules per level. The coverage of the bound is then Beta(28, 3) distributed: 90 ± 5%.
FEWEST = 30
MOST = 1024
BATCH = 64
SETTLED, NEAR, KEPT = 0.9, 0.02, 0.9  # quantiles


def calibrate_levels(
    denoiser: Denoiser, validation_set: GeometrySet, usable: np.ndarray, config: ModelConfig
) -> dict[str, Calibration]:
    """Calibrate a denoiser for each level of theory with enough molecules.

    Parameters
    ----------
    denoiser, validation_set, usable
        See `calibrate`; with the start-level indices of the network.
    config : ModelConfig
    """
    others = tuple(enumerate(config.network.starts))[1:]
    first = ~np.isin(validation_set.start_level, [place for place, _ in others])

    def part(chosen: np.ndarray) -> tuple[GeometrySet, np.ndarray]:
        places = np.flatnonzero(chosen)
        return validation_set.select(places), usable[places]

    found = {}
    for number, name in enumerate(validation_set.levels or (config.level,)):
        at_level = validation_set.level == number
        calibration = calibrate(denoiser, *part(at_level & first), config.relaxation)
        if calibration is None:
            continue
        bounds = {}
        for place, start in others:
            from_start = part(at_level & (validation_set.start_level == place))
            if bound := bound_after(denoiser, *from_start, config.schedule(start)):
                bounds[start] = bound
        found[name] = calibration.model_copy(update={"after_starts": bounds})
    return found


@torch.no_grad()
def bound_after(
    denoiser: Denoiser,
    validation_set: GeometrySet,
    usable: np.ndarray,
    schedule: RelaxationSchedule,
) -> ErrorBound | None:
    """Bound the errors of a schedule by the number of atoms; None if molecules are too few.

    Parameters
    ----------
    denoiser, validation_set, usable, schedule
        See `calibrate`.
    """
    sizes, errors = [], []
    chosen = np.concatenate([np.empty(0, dtype=int), *_chosen(validation_set, usable)])
    if len(chosen) < FEWEST:
        return None
    for padded in like_batches(validation_set, chosen, np.ones(len(usable), bool), BATCH):
        batch = padded.to(next(denoiser.parameters()).device)
        given = denoiser, batch.numbers, batch.starts, schedule
        ends = relax_positions(*given, context=batch.context)
        sizes += (batch.numbers > 0).sum(1).tolist()
        errors += [superpose(*pair)[1] for _, *pair in batch.unpadded(ends)]
    return fit_bound([(np.array(sizes), np.array(errors))])


@torch.no_grad()
def calibrate(
    denoiser: Denoiser,
    validation_set: GeometrySet,
    usable: np.ndarray,
    schedule: RelaxationSchedule,
) -> Calibration | None:
    """Calibrate a denoiser by its readings of validation molecules and the errors of its ends.

    Statements about starts hold for the starts of each level separately.

    Parameters
    ----------
    denoiser : Denoiser
    validation_set : GeometrySet
        Minima at one level of theory.
    usable : (len(validation_set),) bool array
        Which molecules have a start in the basin of their minimum.
    schedule : RelaxationSchedule

    Returns
    -------
    Calibration or None
        None if a level has starts for too few different molecules, or if there is no bridge.
    """
    if not schedule.bridge:
        return None
    chosen = list(_chosen(validation_set, usable))
    if min(map(len, chosen), default=0) < FEWEST:
        return None
    device, everything = next(denoiser.parameters()).device, np.ones(len(validation_set), bool)
    batches = [
        [b.to(device) for b in like_batches(validation_set, places, everything, BATCH)]
        for places in chosen
    ]
    levels = [_Level.measured(denoiser, of_level, schedule) for of_level in batches]
    last = schedule.polish[-1]
    minima = [read(denoiser, b.numbers, b.positions, last, b.context)[0] for b in batches[0]]
    near = min(np.quantile(level.starts, NEAR) for level in levels)
    settled = np.quantile(torch.cat(minima).cpu().double().numpy(), SETTLED)
    return Calibration(
        settled=min(settled, near),
        near=near,
        unseen=fit_bound([(level.sizes, level.errors) for level in levels]),
        after_schedule=fit_bound([(level.moved, level.errors) for level in levels]),
    )


@dataclass(frozen=True, eq=False)
class _Level:
    """Results for molecules with starts at one level of theory, each (n_molecules,), Å.

    Parameters
    ----------
    sizes : array
        Numbers of atoms.
    starts : array
        Readings of the starts.
    moved : array
        Root mean square deviation of the end of the schedule from the first estimate.
    errors : array
        Aligned root mean square deviation of the end from the minimum.
    """

    sizes: np.ndarray
    starts: np.ndarray
    moved: np.ndarray
    errors: np.ndarray

    @classmethod
    def measured(
        cls, denoiser: Denoiser, batches: list[Batch], schedule: RelaxationSchedule
    ) -> Self:
        rows = []
        for batch in batches:
            given = batch.numbers, batch.starts
            end, correction = follow(denoiser, *given, schedule, batch.context)
            rows.append(
                (
                    (batch.numbers > 0).sum(1),
                    read(denoiser, *given, schedule.polish[-1], batch.context)[0],
                    correction,
                    torch.tensor([superpose(*pair)[1] for _, *pair in batch.unpadded(end)]),
                )
            )
        return cls(
            *(torch.cat(column).cpu().double().numpy() for column in zip(*rows, strict=True))
        )


def _chosen(validation_set: GeometrySet, usable: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the indices of some molecules for each level of starts.

    Of the conformers and stereoisomers of a molecule, as far as SMILES identify them, only one is
    used: their errors are correlated, so that they do not count as different molecules.
    """
    levels = validation_set.start_level
    flat = np.array([smiles.translate(None, b"@/\\") for smiles in validation_set.smiles.tolist()])
    for level in np.unique(levels):
        places = np.random.default_rng(0).permutation(np.flatnonzero(usable & (levels == level)))
        _, first = np.unique(flat[places], return_index=True)
        yield places[np.sort(first)][:MOST]


def fit_bound(levels: list[tuple[np.ndarray, np.ndarray]]) -> ErrorBound:
    """Fit a power law of the predictor, and shift it above nine in ten errors of each level."""
    signs, errors = zip(*(np.log(level) for level in levels), strict=True)
    every = np.concatenate(signs)
    differ = np.ptp(every) > 0  # all molecules may be of one size
    exponent = max(0.0, np.polyfit(every, np.concatenate(errors), 1)[0]) if differ else 0.0
    margin = max(_kept(error - exponent * sign) for sign, error in zip(signs, errors, strict=True))
    return ErrorBound(scale=np.exp(margin), exponent=exponent)


def _kept(values: np.ndarray) -> float:
    """Return a bound for a new value in nine of ten cases, by split conformal prediction."""
    return float(np.sort(values)[ceil(KEPT * (len(values) + 1)) - 1])
