"""The relaxation phase: molecules in, relaxed geometries and verdicts out."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypedDict, TypeVar, Unpack, overload

import ase
import numpy as np
from rdkit import Chem

from diffrelax.choices import Verdict
from diffrelax.clock import NO_TIME, Time
from diffrelax.errors import MACHINE_ERRORS, InputError, error_inside
from diffrelax.files.reading import SINGLE_INPUTS, Input, Rejected, is_path, read_molecules
from diffrelax.judgement import (
    Strain,
    is_rebonded,
    second_opinion,
    strain,
    uneven_bonds,
    widened,
)
from diffrelax.levels.level import Level
from diffrelax.levels.names import spelt
from diffrelax.models.batches import (
    End,
    batches,
    choose_calibration,
    choose_schedule,
    relax_batches,
)
from diffrelax.models.cautions import caution
from diffrelax.models.domain import (
    FEWEST_MOLECULES,
    atom_limit,
    has_torsions,
    outside_domain,
    unfamiliar,
)
from diffrelax.models.release import Model
from diffrelax.models.starts import choose_routes
from diffrelax.molecule import Molecule
from diffrelax.molecule.doubts import low_spin, odd_reading
from diffrelax.molecule.identity import identity_change
from diffrelax.progress import progress_bar

Outcome = TypeVar("Outcome")


@dataclass(frozen=True, eq=False)
class Relaxation:
    """The relaxation of one molecule.

    Parameters
    ----------
    name : str
    verdict : {"relaxed", "refused", "fell_back", "failed"}
        ``relaxed`` by the model; ``refused`` as outside the model's domain; ``fell_back`` because
        the model found no minimum, the relaxed geometry is a different molecule, is strained and
        too far above a minimum of GFN2-xTB, may be off by more than ``max_error``, or is above the
        start by GFN2-xTB (checked for unfamiliar atoms and moved double bonds); ``failed`` because
        the input is not a molecule, or by an internal error.
    reason : str
        Why it was not relaxed, or what to beware of; may be empty.
    molecule : Molecule or None
        The relaxed geometry. If the verdict is ``refused`` or ``fell_back``, the start, or for
        strained molecules the minimum of GFN2-xTB; None if it is ``failed``.
    start : Molecule or None
        The geometry as read, or as embedded and relaxed by a force field.
    noise_level : float, Å
        Displacement of the start that the model assumed, per coordinate: on the bridge, the
        typical one of force-field geometries; 0 if the start was left as it is. NaN if the model
        was not applied.
    n_evaluations : int
        Number of evaluations of the network.
    error_bound : float, Å
        Bound on the aligned root mean square deviation from the minimum: nine in ten molecules
        like those of training stay below it, if they start in the basin of their minimum. A start
        that is left as it is or only polished gets the bound of the model's relaxed geometries,
        since the model cannot tell them apart. NaN if the model was not applied or has no
        calibration at the level of theory, if a noise level was given, if the verdict is
        ``fell_back``, and for unfamiliar atoms or bonds, uneven equivalent bonds, a doubtful spin
        state (as of O2), possible strain, and molecules without torsions.
    level : str
        Level of theory of the minimum, as the model spells it; empty if it was not applied.
    time : Time
        Time of the batch divided by its number of molecules, plus the time of the checks; if
        batches run in parallel, of one thread.
    error : Exception or None
        The internal error, if there was one.
    """

    name: str
    verdict: Verdict
    reason: str
    molecule: Molecule | None
    start: Molecule | None
    noise_level: float = float("nan")
    n_evaluations: int = 0
    error_bound: float = float("nan")
    level: str = ""
    time: Time = NO_TIME
    error: Exception | None = field(default=None, repr=False)

    @property
    def seconds(self) -> float:
        """Wall time, s."""
        return self.time.wall

    @property
    def atoms(self) -> ase.Atoms:
        """The geometry as ASE atoms, with the verdict in ``info``.

        ``info`` also has ``reason``, ``model_level`` and ``error_bound``, if known.

        Raises
        ------
        ValueError
            If there is no geometry.
        """
        if self.molecule is None:
            raise InputError(f"{self.name} has no geometry: {self.reason}")
        atoms = self.molecule.to_atoms()
        atoms.info["verdict"] = self.verdict
        if not math.isnan(self.error_bound):
            atoms.info["error_bound"] = self.error_bound
        texts = {"reason": self.reason, "model_level": self.level}
        atoms.info |= {name: text for name, text in texts.items() if text}
        return atoms


class Options(TypedDict, total=False):
    """Keyword arguments of `relax`."""

    level: str | Level | None
    noise_level: float | None
    max_error: float
    fast: bool
    seed: int
    workers: int
    progress: bool


@overload
def relax(  # type: ignore[overload-overlap]
    inputs: str | Molecule, model: Model, **options: Unpack[Options]
) -> Relaxation: ...
@overload
def relax(
    inputs: os.PathLike[str] | Iterable[Input], model: Model, **options: Unpack[Options]
) -> list[Relaxation]: ...
@overload
def relax(inputs: ase.Atoms | Chem.Mol, model: Model, **options: Unpack[Options]) -> Relaxation: ...
def relax(
    inputs: Input | Iterable[Input],
    model: Model,
    *,
    level: str | Level | None = None,
    noise_level: float | None = None,
    max_error: float = math.inf,
    fast: bool = False,
    seed: int = 42,
    workers: int = 1,
    progress: bool = False,
) -> Relaxation | list[Relaxation]:
    """Relax one molecule or many with the relaxation phase of a diffusion model.

    A SMILES is embedded and relaxed with a force field, then along the whole schedule of the model
    if it was trained on geometries of that force field. For given coordinates, the model estimates
    how far they are from a minimum, and leaves them as they are, follows the last part of its
    schedule, or relaxes them with a cheap method first and follows the whole schedule. A model
    without a calibration always follows the whole schedule.

    Parameters
    ----------
    inputs : str, Molecule, ase.Atoms, rdkit.Chem.Mol, path, or an iterable of these
        A string is a SMILES or an InChI. One molecule gives one result. A path (`pathlib.Path`) or
        a list, in which strings may also name files, gives a list of results, one for each
        molecule, in the same order.
    model : Model
        See :func:`diffrelax.load_model`.
    level : str or Level, optional
        Level of theory of the minimum, such as ``B3LYP-D3(BJ)/def2-SVP``, see
        `diffrelax.levels.Level.parse`. The nearest level that the model has learned is used; a
        warning says what differs. Default: the model's own.
    noise_level : float, optional, Å
        Treat the start as a minimum with Gaussian noise of this standard deviation in each
        coordinate, which suits randomly displaced geometries. Default: estimated by the model.
    max_error : float, Å
        Fall back to the start if the error bound is larger, or there is none. Default: no limit.
    fast : bool
        Start from the force-field geometry, even if the model knows a better start.
    seed : int
        Random seed for the embedding of SMILES. The relaxation itself is deterministic.
    workers : int
        Number of processes that read and embed molecules, see :func:`diffrelax.read_molecules`.
    progress : bool
        Show a progress bar on standard error.

    Returns
    -------
    Relaxation, or list of Relaxation

    Raises
    ------
    ValueError
        If ``inputs`` is a single molecule that cannot be read, or a string that names a file; if
        the level is unknown; if ``noise_level`` or ``max_error`` is out of range; or if
        ``max_error`` is given for a model without a calibration, or with a noise level.
    TypeError
        If the model is not a loaded model.
    Exception
        The internal error, if all molecules failed with one.
    """
    if not isinstance(model, Model):
        raise TypeError(f"{model!r} is not a model: use load_model(...)")
    if isinstance(inputs, str) and is_path(inputs):
        raise InputError(f"{inputs} is a file: use relax(Path({inputs!r}), …), which gives a list")
    single = not is_path(inputs) and (
        isinstance(inputs, SINGLE_INPUTS) or not isinstance(inputs, Iterable)
    )
    molecules = read_molecules(inputs, seed=seed, workers=workers, max_atoms=atom_limit(model))
    if single and isinstance(molecules[0], Rejected):
        raise InputError(f"{molecules[0].name}: {molecules[0].reason}")
    nearest = model.nearest_level(level)
    if nearest.differences:
        warnings.warn(nearest.described(model.name), stacklevel=2)
    results = relax_molecules(
        molecules,
        model,
        level=nearest.level,
        noise_level=noise_level,
        max_error=max_error,
        fast=fast,
        progress=progress,
    )
    errors = [result.error for result in results if result.error]
    if errors and len(errors) == len(results):
        raise errors[0]
    return results[0] if single else results


def relax_molecules(
    molecules: Sequence[Molecule | Rejected],
    model: Model,
    *,
    level: str | Level | None = None,
    noise_level: float | None = None,
    max_error: float = math.inf,
    fast: bool = False,
    progress: bool = False,
) -> list[Relaxation]:
    """Relax molecules that have been read; return one result for each, in the same order.

    Parameters
    ----------
    molecules : sequence of Molecule or Rejected
    model : Model
    level, noise_level, max_error, fast, progress
        As in :func:`relax`.

    Raises
    ------
    ValueError
        If the level is unknown, ``noise_level`` or ``max_error`` is out of range,
        or ``max_error`` is given without a calibration.
    """
    level = model.nearest_level(level).level
    schedule = choose_schedule(model, noise_level)
    calibration = choose_calibration(model, level, noise_level, max_error)
    routes = choose_routes(model, level, schedule, calibration, fast=fast)
    results: dict[int, Relaxation] = {}
    covered: dict[int, Molecule] = {}
    for i, molecule in enumerate(molecules):
        if isinstance(molecule, Rejected):
            results[i] = Relaxation(molecule.name, "failed", molecule.reason, None, None)
        elif refused := _or_lost(molecule.name, partial(_refuse, molecule, model)):
            results[i] = refused
        else:
            covered[i] = molecule
    places = list(batches(covered))
    starts = [[covered[i] for i in batch] for batch in places]
    with (
        closing(relax_batches(starts, model, level, routes, calibration)) as relaxed,
        progress_bar(len(covered), "mol", show=progress) as bar,
    ):
        for batch, (ends, time) in zip(places, relaxed, strict=True):
            for i, end in zip(batch, ends, strict=True):
                begun = Time.of_thread()
                start = covered[i]
                judged = (
                    _lost(start.name, end)
                    if isinstance(end, Exception)
                    else _or_lost(start.name, partial(_judge, start, end, model, level, max_error))
                )
                spent = time / len(batch) + (Time.of_thread() - begun)
                results[i] = replace(judged, time=spent)
            bar.update(len(batch))
    return [results[i] for i in range(len(molecules))]


def _or_lost(name: str, work: Callable[[], Outcome]) -> Outcome | Relaxation:
    """Return the result of ``work`` on a molecule, or a failed relaxation if it raises."""
    try:
        return work()
    except MACHINE_ERRORS:
        raise
    except Exception as error:
        return _lost(name, error)


def _lost(name: str, error: Exception) -> Relaxation:
    return Relaxation(name, "failed", error_inside(error), None, None, error=error)


def _refuse(molecule: Molecule, model: Model) -> Relaxation | None:
    reason = outside_domain(molecule, model)
    if not reason:
        return None
    reason = _joined(reason, odd_reading(molecule))
    return Relaxation(molecule.name, "refused", reason, molecule, molecule)


def _judge(start: Molecule, end: End, model: Model, level: str, max_error: float) -> Relaxation:
    given, start = start, end.start if start.is_embedded else start
    odd, doubt = odd_reading(start), unfamiliar(start, model, few=FEWEST_MOLECULES)
    strange, uneven = doubt and unfamiliar(start, model), _uneven(start, end)
    no_bound = strange or uneven or low_spin(start) or not has_torsions(start)
    result = Relaxation(
        start.name,
        "relaxed",
        "",
        start,
        start,
        noise_level=end.noise_level,
        n_evaluations=end.n_evaluations,
        error_bound=math.nan if no_bound else end.error_bound,
        level=level,
    )
    moved = end.noise_level > 0 or end.start is not given
    reason, strained = _reason_to_fall_back(start, end, result.error_bound, max_error), Strain()
    if not reason and end.noise_level > 0 and (doubt or is_rebonded(start, end.positions)):
        reason = second_opinion(start, end.positions, level)
        strange = doubt if reason else strange
    if not reason and moved:
        strained = strain(start, end.positions, level)
        reason = strained.caution if strained.minimum else ""
    if reason:
        return replace(
            result,
            verdict="fell_back",
            reason=_joined(odd, strange, reason),
            molecule=strained.minimum or start,
            error_bound=math.nan,
        )
    bound = math.nan if strained.caution else widened(result.error_bound, start, end.positions)
    result = replace(result, error_bound=bound)
    reasons = [odd, strange, uneven, strained.caution, caution(end.start, model, level, bound)]
    if end.start is not start:
        reasons.append(f"far from a minimum: relaxed with {spelt(end.start.start)} first")
    if end.noise_level > 0 or end.start is not start:
        result = replace(result, molecule=start.with_positions(end.positions, start="diffusion"))
    elif start is given:
        reasons.append("kept as it is: the model sees nothing to correct")
    return replace(result, reason=_joined(*reasons))


def _uneven(start: Molecule, end: End) -> str:
    return uneven_bonds(start, end.positions) if np.isfinite(end.positions).all() else ""


def _joined(*reasons: str) -> str:
    return "; ".join(filter(None, reasons))


def _reason_to_fall_back(start: Molecule, end: End, error_bound: float, max_error: float) -> str:
    if not np.isfinite(end.positions).all():
        return "the model's positions are not finite"
    if end.lost:
        return "the model finds no minimum nearby: check its coordinates and their unit, Å"
    if change := identity_change(start, end.positions):
        return change
    if max_error < math.inf and not error_bound <= max_error:
        if math.isnan(error_bound):
            return f"it has no error bound, and max_error is {max_error:g} Å"
        return f"its error bound is {error_bound:.3f} Å, above {max_error:g} Å"
    return ""
