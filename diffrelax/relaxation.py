"""The relaxation phase: molecules in, relaxed geometries and verdicts out."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, overload

import ase
import numpy as np
import torch
from rdkit import Chem
from torch import Tensor
from tqdm.auto import tqdm

from diffrelax.clock import NO_TIME, Time
from diffrelax.diffusion.denoiser import Denoiser
from diffrelax.diffusion.reading import Calibration, Relaxed, relax_by_reading
from diffrelax.diffusion.schedule import RelaxationSchedule, relax_positions
from diffrelax.files.reading import Input, Rejected, is_path, read_molecules
from diffrelax.models.domain import atom_limit, caution, outside_domain, rise, unfamiliar
from diffrelax.models.release import Model
from diffrelax.molecule import Molecule
from diffrelax.molecule.identity import identity_change
from diffrelax.network.network import Theory

Verdict = Literal["relaxed", "refused", "fell_back", "failed"]

PAIRS_IN_BATCH = 40_000  # bounds memory


@dataclass(frozen=True, eq=False)
class Relaxation:
    """The relaxation of one molecule.

    Parameters
    ----------
    name : str
    verdict : {"relaxed", "refused", "fell_back", "failed"}
        Relaxed by the model; outside the model's domain, so not tried; tried, but the result was
        not the same molecule, may be off by too much, or, where the model has hardly seen such
        atoms, is higher than the start by GFN2-xTB, so the start is returned; or not a molecule at
        all.
    reason : str
        Why it was not relaxed, or what to beware of; empty if there is nothing to say.
    molecule : Molecule or None
        At the relaxed geometry, or at the start where the verdict is ``refused`` or
        ``fell_back``; None where it is ``failed``.
    start : Molecule or None
        As read, or as embedded and relaxed by a force field.
    noise_level : float, Å
        Displacement of the start that the model assumed, for each coordinate: on the bridge the
        typical one of force-field geometries; 0 where it saw nothing to correct. NaN without the
        model.
    n_evaluations : int
        Evaluations of the network.
    error_bound : float, Å
        Aligned root mean square deviation from the minimum that nine in ten of the molecules like
        those of training stay below, if they start in the basin of their minimum. A start that is
        left as it is, or nearly, has the bound of the model's own ends, from which the model cannot
        tell it. NaN without the model, where it has no calibration, where the noise level was
        given, where the model has hardly seen such atoms, and where the verdict is ``fell_back``.
    time : Time
        In the model: the batch's time over its molecules.
    """

    name: str
    verdict: Verdict
    reason: str
    molecule: Molecule | None
    start: Molecule | None
    noise_level: float = float("nan")
    n_evaluations: int = 0
    error_bound: float = float("nan")
    time: Time = NO_TIME

    @property
    def seconds(self) -> float:
        """Wall time, s."""
        return self.time.wall

    @property
    def atoms(self) -> ase.Atoms:
        """The geometry as ASE atoms; ``info`` holds verdict and reason.

        Raises
        ------
        ValueError
            If there is no geometry.
        """
        if self.molecule is None:
            raise ValueError(f"{self.name} has no geometry: {self.reason}")
        atoms = self.molecule.to_atoms()
        atoms.info |= {"verdict": self.verdict, "reason": self.reason}
        return atoms


@overload
def relax(
    inputs: Molecule | ase.Atoms | Chem.Mol,
    model: Model,
    *,
    level: str | None = None,
    noise_level: float | None = None,
    max_error: float = math.inf,
    seed: int = 42,
    workers: int = 1,
    progress: bool = False,
) -> Relaxation: ...
@overload
def relax(
    inputs: str | os.PathLike[str] | Iterable[Input],
    model: Model,
    *,
    level: str | None = None,
    noise_level: float | None = None,
    max_error: float = math.inf,
    seed: int = 42,
    workers: int = 1,
    progress: bool = False,
) -> Relaxation | list[Relaxation]: ...
def relax(
    inputs: Input | Iterable[Input],
    model: Model,
    *,
    level: str | None = None,
    noise_level: float | None = None,
    max_error: float = math.inf,
    seed: int = 42,
    workers: int = 1,
    progress: bool = False,
) -> Relaxation | list[Relaxation]:
    """Relax one molecule or many with the relaxation phase of a diffusion model.

    A SMILES is embedded and relaxed by a force field first, and then follows the whole schedule of
    the model. Coordinates are relaxed from where they stand: the model reads how far they are from
    a minimum, and leaves them alone, takes one step, or follows its schedule. A model without a
    calibration always does the last.

    Parameters
    ----------
    inputs : SMILES, path, Molecule, ase.Atoms, rdkit.Chem.Mol, or an iterable of these
        A list or a file gives a list of results, one for each molecule, in the same order.
    model : Model
        See :func:`diffrelax.load_model`.
    level : str, optional
        Level of theory of the minimum that is aimed at, one that the model has learned. Default:
        the model's own.
    noise_level : float, optional, Å
        Treat the start as a minimum with Gaussian noise of this standard deviation in each
        coordinate, as suits geometries that were shaken. Default: as the model reads it.
    max_error : float, Å
        Fall back to the start where the bound on the error is larger, or there is none. Not asked
        for by default: of validation molecules with a bound above 0.5 Å (3%), all had better bonds
        than their start, and 93% were closer to their minimum.
    seed : int
        Of the embedding of SMILES. The relaxation itself is deterministic.
    workers : int
        Number of processes that read and embed, see :func:`diffrelax.read_molecules`.
    progress : bool
        Show a progress bar on standard error.

    Returns
    -------
    Relaxation, or list of Relaxation

    Raises
    ------
    ValueError
        If ``inputs`` is a single molecule that cannot be read, if the model has not learned the
        level, if ``noise_level`` or ``max_error`` is out of range, or if ``max_error`` is given to
        a model without a calibration or beside a noise level.
    """
    one = (str, Molecule, Rejected, ase.Atoms, Chem.Mol)
    single = not is_path(inputs) and (isinstance(inputs, one) or not isinstance(inputs, Iterable))
    molecules = read_molecules(inputs, seed=seed, workers=workers, max_atoms=atom_limit(model))
    if single and isinstance(molecules[0], Rejected):
        raise ValueError(f"{molecules[0].name}: {molecules[0].reason}")
    results = relax_molecules(
        molecules,
        model,
        level=level,
        noise_level=noise_level,
        max_error=max_error,
        progress=progress,
    )
    return results[0] if single else results


def relax_molecules(
    molecules: Sequence[Molecule | Rejected],
    model: Model,
    *,
    level: str | None = None,
    noise_level: float | None = None,
    max_error: float = math.inf,
    progress: bool = False,
) -> list[Relaxation]:
    """Relax molecules that have been read, one result for each, in their order.

    Parameters
    ----------
    molecules : sequence of Molecule or Rejected
    model : Model
    level, noise_level, max_error, progress
        As in :func:`relax`.

    Raises
    ------
    ValueError
        If the model has not learned the level, ``noise_level`` or ``max_error`` is out of range,
        or ``max_error`` is given where nothing is known of errors.
    """
    level = model.check_level(level)
    schedule = choose_schedule(model, noise_level)
    calibration = choose_calibration(model, noise_level, max_error)
    relax_tensors = partial(_relax_tensors, model.denoiser, schedule, calibration)
    results: dict[int, Relaxation] = {}
    covered = []
    for i, molecule in enumerate(molecules):
        if isinstance(molecule, Rejected):
            results[i] = Relaxation(molecule.name, "failed", molecule.reason, None, None)
        elif reason := outside_domain(molecule, model):
            results[i] = Relaxation(molecule.name, "refused", reason, molecule, molecule)
        else:
            covered.append((i, molecule))
    covered.sort(key=lambda item: item[1].n_atoms)
    with tqdm(total=len(covered), unit="mol", disable=None if progress else True) as bar:
        for batch in _batches(covered):
            begun = Time.now()
            starts = [molecule for _, molecule in batch]
            relaxed = _relax_batch(starts, model, level, relax_tensors, max_error)
            time = (Time.now() - begun) / len(batch)
            for (i, _), result in zip(batch, relaxed, strict=True):
                results[i] = replace(result, time=time)
            bar.update(len(batch))
    return [results[i] for i in range(len(molecules))]


def choose_schedule(model: Model, noise_level: float | None) -> RelaxationSchedule:
    """Return the noise levels of a relaxation.

    Parameters
    ----------
    model : Model
    noise_level : float, optional, Å
        First of Gaussian levels that fall by at most half each to the model's last one. Default:
        the model's own schedule.

    Raises
    ------
    ValueError
        If the level is outside the range that the model was trained on.
    """
    if noise_level is None:
        return model.config.relaxation
    low, high = model.config.denoiser.sigma_min, model.config.denoiser.sigma_max
    if not low <= noise_level <= high:
        raise ValueError(f"noise level {noise_level} Å: the model knows {low} to {high} Å")
    last = model.config.relaxation.polish[-1]
    halvings = math.ceil(math.log2(noise_level / last))
    levels = (noise_level, *(last * (noise_level / last) ** (i / halvings)
                             for i in reversed(range(halvings))))  # fmt: skip
    return RelaxationSchedule(bridge=(), polish=levels)


def choose_calibration(
    model: Model, noise_level: float | None, max_error: float
) -> Calibration | None:
    """Return what readings of the model mean; None where it is not to read, or cannot.

    Raises
    ------
    ValueError
        If errors are to be bounded and are not known, or the bound is not positive.
    """
    if not max_error > 0:
        raise ValueError(f"max_error {max_error} Å: give a positive number")
    calibration = model.config.calibration if noise_level is None else None
    if calibration is None and max_error < math.inf:
        why = (
            f"{model.name} tells no bound on its errors: leave max_error out, or take a model "
            "that does"
            if noise_level is None
            else "nothing is known of errors at a given noise level: leave out one of the two"
        )
        raise ValueError(f"max_error {max_error} Å: {why}")
    return calibration


def batch_size(n_atoms: int) -> int:
    """Return how many molecules of a size go through the network at once."""
    return max(1, PAIRS_IN_BATCH // n_atoms**2)


def _batches(covered: list[tuple[int, Molecule]]) -> Iterable[list[tuple[int, Molecule]]]:
    batch: list[tuple[int, Molecule]] = []
    for item in covered:
        if batch and len(batch) >= batch_size(item[1].n_atoms):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def _relax_batch(
    molecules: list[Molecule],
    model: Model,
    level: str,
    relax_tensors: Callable[[Tensor, Tensor, Tensor, Theory | None], Relaxed],
    max_error: float,
) -> list[Relaxation]:
    n_atoms = max(m.n_atoms for m in molecules)
    numbers = torch.zeros(len(molecules), n_atoms, dtype=torch.int64)
    positions = torch.zeros(len(molecules), n_atoms, 3)
    centres = [m.positions.mean(axis=0) for m in molecules]
    for i, (molecule, middle) in enumerate(zip(molecules, centres, strict=True)):
        numbers[i, : molecule.n_atoms] = torch.tensor(molecule.numbers)
        positions[i, : molecule.n_atoms] = torch.tensor(molecule.positions - middle)
    unread = torch.tensor([m.start in model.config.training.starts for m in molecules])
    theory = model.theory([m.charge for m in molecules], level)
    numbers, positions, unread = (x.to(model.device) for x in (numbers, positions, unread))
    relaxed = relax_tensors(numbers, positions, unread, theory)
    columns = (
        relaxed.positions.cpu().double().numpy(),
        relaxed.lost.tolist(),
        relaxed.noise_level.tolist(),
        relaxed.n_evaluations.tolist(),
        relaxed.error_bound.tolist(),
    )
    results = []
    for molecule, middle, array, lost, *rest in zip(molecules, centres, *columns, strict=True):
        result = Relaxation(molecule.name, "relaxed", "", molecule, molecule, *rest)
        end = array[: molecule.n_atoms] + middle
        results.append(_judge(result, end, model, max_error, lost=lost))
    return results


def _relax_tensors(
    denoiser: Denoiser,
    schedule: RelaxationSchedule,
    calibration: Calibration | None,
    numbers: Tensor,
    positions: Tensor,
    unread: Tensor,
    theory: Theory | None,
) -> Relaxed:
    if calibration:
        return relax_by_reading(denoiser, numbers, positions, schedule, calibration, unread, theory)
    ends = relax_positions(denoiser, numbers, positions, schedule, theory=theory)
    each = torch.ones(len(numbers), dtype=torch.float64)
    return Relaxed(
        positions=ends,
        noise_level=schedule.first * each,
        n_evaluations=schedule.n_evaluations * each.int(),
        error_bound=math.nan * each,
        lost=torch.zeros(len(numbers), dtype=torch.bool),
    )


def _judge(
    result: Relaxation, positions: np.ndarray, model: Model, max_error: float, *, lost: bool
) -> Relaxation:
    start = result.molecule
    assert start is not None
    if strange := unfamiliar(start, model):
        result = replace(result, error_bound=math.nan)
    reason = _reason_to_fall_back(start, positions, result.error_bound, max_error, lost=lost)
    if not reason and strange and result.noise_level > 0:
        reason = _second_opinion(start, positions)
    if reason:
        reason = "; ".join(filter(None, (strange, reason)))
        return replace(result, verdict="fell_back", reason=reason, error_bound=math.nan)
    reasons = [strange, caution(start, model, result.error_bound)]
    if result.noise_level == 0:
        reasons.append("left as it is: the model sees nothing to correct")
    else:
        result = replace(result, molecule=start.with_positions(positions, start="diffusion"))
    return replace(result, reason="; ".join(filter(None, reasons)))


def _reason_to_fall_back(
    start: Molecule, positions: np.ndarray, error_bound: float, max_error: float, *, lost: bool
) -> str:
    if not np.isfinite(positions).all():
        return "the model returned positions that are not finite"
    if lost:
        return "the model finds no minimum near it: check its coordinates and their unit, Å"
    if change := identity_change(start, positions):
        return change
    if max_error < math.inf and not error_bound <= max_error:
        if math.isnan(error_bound):
            return f"there is no bound on its error, and {max_error:g} Å was asked for"
        return f"its error may be {error_bound:.3f} Å, more than {max_error:g} Å"
    return ""


def _second_opinion(start: Molecule, positions: np.ndarray) -> str:
    """Say why GFN2-xTB prefers the start, where the model does not know what it does."""
    above = rise(start, positions)
    if above <= 0:
        return ""
    if math.isnan(above):
        return "GFN2-xTB cannot tell whether it came closer to a minimum"
    return f"GFN2-xTB finds the end {above:.1f} kcal/mol above the start"
