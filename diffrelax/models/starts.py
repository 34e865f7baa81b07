"""Starts of a model: cheap minima that molecules are taken to before its network moves them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from diffrelax.diffusion.reading import Calibration, Route
from diffrelax.diffusion.schedule import RelaxationSchedule
from diffrelax.errors import InputError
from diffrelax.levels.aimnet2 import AIMNet2
from diffrelax.levels.batch import relax_many
from diffrelax.levels.calculators import check_installed
from diffrelax.models.domain import knows_start
from diffrelax.models.release import Model
from diffrelax.molecule import Molecule
from diffrelax.molecule.force_fields import relax_nearby
from diffrelax.molecule.held_torsions import turned_torsions

FMAX = 0.01  # eV/Å
AS_IT_IS = RelaxationSchedule(bridge=(), polish=())
STANDS_FOR = {"aimnet2": AIMNet2.stands_for}  # a level of theory whose minima are taken from it


def choose_routes(
    model: Model,
    level: str,
    schedule: RelaxationSchedule,
    calibration: Calibration | None,
    *,
    fast: bool = False,
) -> dict[str, Route]:
    """Return how a model relaxes to a level of theory, from each level of starts, the best last.

    Those of which too few were there at this level to tell what errors they lead to are left out.

    Parameters
    ----------
    model : Model
    level : str
        One that the model has learned.
    schedule : RelaxationSchedule
        That of the model, or another, which is followed from anywhere.
    calibration : Calibration, optional
    fast : bool
        Begin at force-field geometries, even if the model knows better starts.

    Warns
    -----
    UserWarning
        If a level of starts is not installed or damaged; it is left out.
    """
    first, *others = model.config.network.starts
    found = {first: Route(schedule, calibration.after_schedule if calibration else None)}
    if fast or schedule != model.config.relaxation:
        return found
    for start in others:
        own = STANDS_FOR.get(start) == level
        bound = calibration.after_starts.get(start) if calibration else None
        if calibration and not bound:
            continue
        try:
            check_installed(start)
        except InputError as error:
            warnings.warn(f"{error}. Until then, molecules start at {first.upper()}", stacklevel=2)
            continue
        found[start] = Route(AS_IT_IS if own else model.config.schedule(start), bound)
    return found


def place_of_start(molecule: Molecule, model: Model, starts: Sequence[str]) -> int:
    """Return the place among levels of starts of the one that a geometry is a minimum of.

    -1 where it is of none, so that it is not known how far it is off.
    """
    if molecule.start in starts:
        return starts.index(molecule.start)
    return 0 if knows_start(molecule, model) else -1


def lowered(molecules: Sequence[Molecule], starts: Sequence[str]) -> list[Molecule]:
    """Relax molecules at the last of some levels of starts.

    Those that it does not cover, or that it turns into other molecules, stay as they are.
    """
    if len(starts) == 1 or not molecules:
        return list(molecules)
    ends = relax_many(molecules, starts[-1], fmax=FMAX)
    return [
        molecule.with_positions(end.positions, start=starts[-1]) if end.converged else molecule
        for molecule, end in zip(molecules, ends, strict=True)
    ]


def first_starts(
    molecules: Sequence[Molecule], model: Model, starts: Sequence[str]
) -> list[Molecule]:
    """Take embedded molecules to the best start; those that are there, and others, stay."""
    found, best = list(molecules), len(starts) - 1
    chosen = [i for i, m in enumerate(found) if 0 <= place_of_start(m, model, starts) < best]
    for i, end in zip(chosen, lowered([found[i] for i in chosen], starts), strict=True):
        found[i] = end
    return found


def settled(molecules: Sequence[Molecule], model: Model, starts: Sequence[str]) -> list[Molecule]:
    """Lead geometries that are not at a minimum to where a model can begin.

    By way of a force field if the best start cannot be reached at once, or has a group twisted out
    of conjugation, which AIMNet2 may leave as it is.
    """
    found = list(molecules)
    direct = [i for i, m in enumerate(molecules) if not any(turned_torsions(m.to_rdkit()))]
    for i, end in zip(direct, lowered([molecules[i] for i in direct], starts), strict=True):
        found[i] = end
    left = [i for i, one in enumerate(found) if one is molecules[i]]
    nearby = [_by_force_field(molecules[i], model) for i in left]
    for i, end in zip(left, lowered(nearby, starts), strict=True):
        found[i] = end
    return found


def _by_force_field(molecule: Molecule, model: Model) -> Molecule:
    mol = molecule.to_rdkit()
    level = relax_nearby(mol)
    found = molecule.with_positions(mol.GetConformer().GetPositions(), start=level)
    return found if level and knows_start(found, model) else molecule
