"""The relaxation phase: molecules in, relaxed geometries and verdicts out."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, overload

import ase
import numpy as np
import torch
from ase.data import chemical_symbols
from rdkit import Chem
from tqdm.auto import tqdm

from diffrelax.clock import NO_TIME, Time
from diffrelax.diffusion.relaxation import RelaxationSchedule, relax_positions
from diffrelax.files import FORMATS, Input, Rejected, read_molecules
from diffrelax.identity import identity_change
from diffrelax.models import Model
from diffrelax.molecule import Molecule
from diffrelax.perception import near_pairs, skeleton

Verdict = Literal["relaxed", "refused", "fell_back", "failed"]

MAX_ATOMS = 100
PAIRS_IN_BATCH = 40_000  # bounds memory


@dataclass(frozen=True, eq=False)
class Relaxation:
    """The relaxation of one molecule.

    Parameters
    ----------
    name : str
    verdict : {"relaxed", "refused", "fell_back", "failed"}
        Relaxed by the model; outside the model's domain, so not tried; tried, but the result was
        not the same molecule, so the start is returned; or not a molecule at all.
    reason : str
        Why it was not relaxed, or what to beware of; empty if there is nothing to say.
    molecule : Molecule or None
        At the relaxed geometry, or at the start where the verdict is ``refused`` or
        ``fell_back``; None where it is ``failed``.
    start : Molecule or None
        As read, or as embedded and relaxed by a force field.
    noise_level : float, Å
        Displacement of the start that the model assumed, for each coordinate: on the bridge the
        typical one of force-field geometries. NaN without the model.
    n_evaluations : int
        Evaluations of the network.
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
    noise_level: float | None = None,
    seed: int = 42,
    progress: bool = False,
) -> Relaxation: ...
@overload
def relax(
    inputs: str | os.PathLike[str] | Iterable[Input],
    model: Model,
    *,
    noise_level: float | None = None,
    seed: int = 42,
    progress: bool = False,
) -> Relaxation | list[Relaxation]: ...
def relax(
    inputs: Input | Iterable[Input],
    model: Model,
    *,
    noise_level: float | None = None,
    seed: int = 42,
    progress: bool = False,
) -> Relaxation | list[Relaxation]:
    """Relax one molecule or many with the relaxation phase of a diffusion model.

    A SMILES is embedded and relaxed by a force field first. Coordinates are relaxed from where
    they stand; by default they are taken for a force-field geometry.

    Parameters
    ----------
    inputs : SMILES, path, Molecule, ase.Atoms, rdkit.Chem.Mol, or an iterable of these
        A list or a file gives a list of results, one for each molecule, in the same order.
    model : Model
        See :func:`diffrelax.load_model`.
    noise_level : float, optional, Å
        Treat the start as a minimum with Gaussian noise of this standard deviation in each
        coordinate, as suits geometries that are better than a force field's (0.03) or that were
        shaken. Default: the model's bridge from force-field geometries.
    seed : int
        Of the embedding of SMILES. The relaxation itself is deterministic.
    progress : bool
        Show a progress bar on standard error.

    Returns
    -------
    Relaxation, or list of Relaxation

    Raises
    ------
    ValueError
        If ``inputs`` is a single molecule that cannot be read, or if ``noise_level`` is out of
        range.
    """
    single = isinstance(inputs, (Molecule, ase.Atoms, Chem.Mol)) or (
        isinstance(inputs, str) and Path(inputs).suffix.lower() not in FORMATS
    )
    molecules = read_molecules(inputs, seed=seed)
    if single and isinstance(molecules[0], Rejected):
        raise ValueError(f"{molecules[0].name}: {molecules[0].reason}")
    results = relax_molecules(molecules, model, noise_level=noise_level, progress=progress)
    return results[0] if single else results


def relax_molecules(
    molecules: Sequence[Molecule | Rejected],
    model: Model,
    *,
    noise_level: float | None = None,
    progress: bool = False,
) -> list[Relaxation]:
    """Relax molecules that have been read, one result for each, in their order.

    Parameters
    ----------
    molecules : sequence of Molecule or Rejected
    model : Model
    noise_level, progress
        As in :func:`relax`.

    Raises
    ------
    ValueError
        If ``noise_level`` is out of range.
    """
    schedule = choose_schedule(model, noise_level)
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
            relaxed = _relax_batch([molecule for _, molecule in batch], model, schedule)
            time = (Time.now() - begun) / len(batch)
            for (i, _), result in zip(batch, relaxed, strict=True):
                results[i] = replace(result, time=time)
            bar.update(len(batch))
    return [results[i] for i in range(len(molecules))]


def outside_domain(molecule: Molecule, model: Model) -> str:
    """Say why the model does not cover a molecule; empty if it does."""
    known = model.config.network.elements
    foreign = sorted({s for s, z in zip(molecule.symbols, molecule.numbers, strict=True)
                      if z not in known})  # fmt: skip
    if foreign:
        return f"the model was not trained on {', '.join(foreign)}"
    if molecule.charge:
        return f"charge {molecule.charge:+d}: the model was trained on neutral molecules"
    if molecule.multiplicity != 1:
        return (
            f"multiplicity {molecule.multiplicity}: the model was trained on closed-shell molecules"
        )
    if molecule.n_atoms == 1 or not np.isin(molecule.numbers, (6, 7, 8)).any():
        return f"{molecule.formula}: the model was trained on molecules with C, N or O"
    if molecule.n_atoms > MAX_ATOMS:
        return (
            f"{molecule.n_atoms} atoms: the model was trained on at most {model.config.largest} "
            f"and is not used beyond {MAX_ATOMS}"
        )
    if not molecule.bonds:
        return "its bonds could not be perceived, so nothing could be checked: give a SMILES"
    pairs = near_pairs(molecule.numbers, molecule.positions)
    fragments = len(Chem.GetMolFrags(skeleton(molecule.numbers, pairs)))
    if fragments > 1:
        return f"{fragments} fragments: the model was trained on single molecules"
    ends = molecule.numbers[np.array([bond[:2] for bond in molecule.bonds])]
    for pair in {(int(a), int(b)) for a, b in np.sort(ends, axis=1)} - set(model.config.bonds):
        names = "–".join(chemical_symbols[z] for z in pair)
        return f"it has a bond {names}, of which the model has seen none"
    return ""


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


def _batches(covered: list[tuple[int, Molecule]]) -> Iterable[list[tuple[int, Molecule]]]:
    batch: list[tuple[int, Molecule]] = []
    for item in covered:
        if batch and (len(batch) + 1) * item[1].n_atoms ** 2 > PAIRS_IN_BATCH:
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def _relax_batch(
    molecules: list[Molecule], model: Model, schedule: RelaxationSchedule
) -> list[Relaxation]:
    n_atoms = max(m.n_atoms for m in molecules)
    numbers = torch.zeros(len(molecules), n_atoms, dtype=torch.int64)
    positions = torch.zeros(len(molecules), n_atoms, 3)
    centres = [m.positions.mean(axis=0) for m in molecules]
    for i, (molecule, middle) in enumerate(zip(molecules, centres, strict=True)):
        numbers[i, : molecule.n_atoms] = torch.tensor(molecule.numbers)
        positions[i, : molecule.n_atoms] = torch.tensor(molecule.positions - middle)
    moved = relax_positions(
        model.denoiser, numbers.to(model.device), positions.to(model.device), schedule
    )
    arrays = moved.cpu().double().numpy()
    return [
        _judge(molecule, array[: molecule.n_atoms] + middle, model, schedule)
        for molecule, array, middle in zip(molecules, arrays, centres, strict=True)
    ]


def _judge(
    start: Molecule, positions: np.ndarray, model: Model, schedule: RelaxationSchedule
) -> Relaxation:
    noise_level = (*schedule.bridge, *schedule.polish)[0]
    cost = (noise_level, schedule.n_evaluations)
    if reason := _reason_to_fall_back(start, positions):
        return Relaxation(start.name, "fell_back", reason, start, start, *cost)
    molecule = start.with_positions(positions, start="diffusion")
    return Relaxation(start.name, "relaxed", _caution(start, model), molecule, start, *cost)


def _caution(start: Molecule, model: Model) -> str:
    cautions = []
    if start.n_atoms > (largest := model.config.largest):
        cautions.append(f"{start.n_atoms} atoms: extrapolated, trained on at most {largest}")
    known = model.config.training.starts
    if start.start not in (*known, "given", "diffusion"):
        cautions.append(f"started from {start.start}, trained on {', '.join(known)}")
    return "; ".join(cautions)


def _reason_to_fall_back(start: Molecule, positions: np.ndarray) -> str:
    if not np.isfinite(positions).all():
        return "the model returned positions that are not finite"
    return identity_change(start, positions)
