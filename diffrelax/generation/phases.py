"""Generation in batches: exploration until the elements are chosen, then relaxation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count, islice
from typing import NamedTuple

import ase
import numpy as np
import torch
from tqdm import tqdm

from diffrelax.diffusion.generation import Relax, Settle, generate_positions, split
from diffrelax.diffusion.joint import GenerationConfig, JointDenoiser
from diffrelax.diffusion.schedule import relax_positions
from diffrelax.errors import InputError
from diffrelax.generation.trajectory import TrajectoryRecorder
from diffrelax.generation.verdict import Generated, judge
from diffrelax.models.release import Model
from diffrelax.molecule.embedding import check_seed
from diffrelax.molecule.valences import VALENCES, settle_elements
from diffrelax.progress import progress_bar

MOLECULES_IN_BATCH = 100
MOST = 1_000_000


def generate(
    model: Model,
    relaxer: Model | None,
    n: int = 100,
    *,
    seed: int = 42,
    free_elements: bool = False,
    trajectories: bool = False,
    progress: bool = False,
) -> list[Generated]:
    """Generate molecules.

    The numbers of atoms follow the training data. The same seed and ``n`` give the same molecules.
    Exploration ends at the noise level ``settle_at`` of the model, where the most probable elements
    that satisfy all valences are chosen; if there are none, the molecule returns to more noise, up
    to ``restarts`` times. Another model then relaxes the molecules. All results are returned; those
    that are not molecules have a reason.

    Parameters
    ----------
    model : Model
        One that can generate, such as ``generate-qm9``.
    relaxer : Model or None
        One that relaxes, at the same level of theory, such as ``relax-qm9``. None: the first model
        continues to the lowest noise level.
    n : int
    seed : int
    free_elements : bool
        Choose the most probable elements without regard to valences.
    trajectories : bool
        Whether to keep trajectories; after a restart, only the last attempt.
    progress : bool
        Show a progress bar on standard error.

    Raises
    ------
    ValueError
        If the model cannot generate, has elements without known valences, or does not match the
        other model in elements and level; if ``n`` is not from 1 to `MOST`, or the seed is out of
        range.
    """
    found = dict(
        generate_each(
            model,
            relaxer,
            n,
            seed=seed,
            free_elements=free_elements,
            trajectories=trajectories,
            progress=progress,
        )
    )
    return [found[i] for i in range(n)]


def generate_each(
    model: Model,
    relaxer: Model | None,
    n: int,
    *,
    seed: int,
    free_elements: bool = False,
    trajectories: bool = False,
    skip: int = 0,
    progress: bool = False,
) -> Iterator[tuple[int, Generated]]:
    """Yield generated molecules with their indices, see `generate`.

    They are made in batches of `MOLECULES_IN_BATCH` of similar size, in a random order that the
    seed fixes. The first ``skip`` molecules are left out; batches of only such molecules are not
    made.
    """
    check_seed(seed)
    if not 1 <= n <= MOST:
        raise InputError(f"n = {n}: give 1 to {MOST:,}")
    settings, denoiser = model.config.generation, model.denoiser
    if settings is None or not isinstance(denoiser, JointDenoiser):
        raise InputError(f"{model.name} relaxes but does not generate: choose another model")
    if not free_elements and (unknown := set(model.config.elements) - VALENCES.keys()):
        raise InputError(
            f"there are no valences for the atomic numbers {sorted(unknown)}, which "
            f"{model.name} makes: use free elements"
        )
    generator = torch.Generator().manual_seed(seed)
    sizes = _draw_sizes(settings, n, generator)
    batches = [
        _Batch(molecules.tolist(), sizes[molecules], own)
        for molecules, own in zip(
            sizes.argsort(stable=True).split(MOLECULES_IN_BATCH), _generators(seed), strict=False
        )
    ]
    phases = _Phases(
        denoiser,
        settings,
        None if free_elements else settle_elements,
        None if relaxer is None else _relax_with(relaxer, model),
    )
    order = torch.randperm(len(batches), generator=generator).tolist()
    return _generate(phases, [batches[i] for i in order], trajectories, skip, progress)


def _relax_with(relaxer: Model, model: Model) -> Relax:
    """Return the function that relaxes generated molecules."""
    level = model.config.level
    if level not in relaxer.config.levels:
        raise InputError(f"{relaxer.name} has not learned {level}, the level of {model.name}")
    if unknown := set(model.config.elements) - set(relaxer.config.elements):
        raise InputError(f"{relaxer.name} does not know the atomic numbers {sorted(unknown)}")

    def relax(numbers: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        context = relaxer.context([0] * len(numbers), level)
        schedule = relaxer.config.relaxation
        return relax_positions(relaxer.denoiser, numbers, positions, schedule, context=context)

    return relax


class _Phases(NamedTuple):
    """Exploration, choice of elements, and relaxation."""

    denoiser: JointDenoiser
    settings: GenerationConfig
    settle: Settle | None
    relax: Relax | None

    @property
    def levels(self) -> Sequence[float]:
        """Noise levels of exploration and, without another model, of relaxation, Å."""
        levels = self.settings.levels(self.denoiser.config)
        return split(levels, self.settings.settle_at)[0] if self.relax else levels


class _Batch(NamedTuple):
    places: list[int]
    sizes: torch.Tensor
    generator: torch.Generator


def _generators(seed: int) -> Iterator[torch.Generator]:
    """Yield a random generator for each batch, independent of earlier batches."""
    for batch in count():
        (own,) = np.random.SeedSequence([seed, batch]).generate_state(1).tolist()
        yield torch.Generator().manual_seed(own)


def _generate(
    phases: _Phases, batches: list[_Batch], trajectories: bool, skip: int, progress: bool
) -> Iterator[tuple[int, Generated]]:
    steps = len(phases.levels)
    total = steps * sum(len(batch.places) for batch in batches)
    with progress_bar(total, "level", show=progress) as bar:
        for batch in batches:
            if skip >= len(batch.places):
                bar.update(len(batch.places) * steps)
                skip -= len(batch.places)
                continue
            made = _generate_batch(phases, batch, trajectories, bar)
            yield from islice(zip(batch.places, made, strict=True), skip, None)
            skip = 0


def _draw_sizes(settings: GenerationConfig, n: int, generator: torch.Generator) -> torch.Tensor:
    sizes = torch.tensor(list(settings.sizes))
    weights = torch.tensor(list(settings.sizes.values()), dtype=torch.float64)
    return sizes[torch.multinomial(weights, n, replacement=True, generator=generator)]


def _generate_batch(
    phases: _Phases, batch: _Batch, trajectories: bool, bar: tqdm
) -> Iterator[Generated]:
    denoiser = phases.denoiser
    seen = TrajectoryRecorder(phases.levels, batch.sizes, denoiser.network.elements, bar)
    atoms = generate_positions(
        denoiser,
        batch.sizes,
        phases.settings,
        batch.generator,
        settle=phases.settle,
        relax=phases.relax,
        observe=seen.keep if trajectories else seen.count,
    )
    numbers, positions = atoms[0].cpu().numpy(), atoms[1].cpu().double().numpy()
    for i, size in enumerate(batch.sizes.tolist()):
        trajectory = seen.trajectory(i, size) if trajectories else None
        yield judge(ase.Atoms(numbers[i, :size], positions[i, :size]), trajectory)
