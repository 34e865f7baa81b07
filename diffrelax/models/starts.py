"""Starts of a model: minima at cheap levels of theory, from which its network relaxes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from diffrelax.diffusion.reading import Calibration, Route
from diffrelax.diffusion.schedule import RelaxationSchedule
from diffrelax.errors import InputError
from diffrelax.levels.aimnet2 import AIMNet2
from diffrelax.levels.batch import relax_many
from diffrelax.levels.calculators import check_installed
from diffrelax.levels.names import spelt
from diffrelax.models.domain import knows_start
from diffrelax.models.release import Model
from diffrelax.molecule import Molecule
from diffrelax.molecule.force_fields import relax_nearby
from diffrelax.molecule.held_torsions import turned_torsions

FMAX = 0.01  # eV/Å
AS_IT_IS = RelaxationSchedule(bridge=(), polish=())
STANDS_FOR = {"aimnet2": AIMNet2.stands_for}  # the level for which its minima are returned


def choose_routes(
    model: Model,
    level: str,
    schedule: RelaxationSchedule,
    calibration: Calibration | None,
    *,
    fast: bool = False,
) -> dict[str, Route]:
    """Return the route of a model to a level of theory from each level of starts, the best last.

    Levels of starts without a calibrated error bound at this level of theory are left out.

    Parameters
    ----------
    model : Model
    level : str
        Level of theory that the model has learned.
    schedule : RelaxationSchedule
        The model's own, or another one, which is then followed from all starts.
    calibration : Calibration, optional
    fast : bool
        Start from force-field geometries, even if the model knows better starts.

    Warns
    -----
    UserWarning
        If the method of a level of starts is not installed or damaged; it is left out.
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
            warnings.warn(f"{error}. Until then, molecules start at {spelt(first)}", stacklevel=2)
            continue
        found[start] = Route(AS_IT_IS if own else model.config.schedule(start), bound)
    return found


def place_of_start(molecule: Molecule, model: Model, starts: Sequence[str]) -> int:
    """Return the index of the level of starts at which a geometry was relaxed.

    -1 if it is none of these, so that its distance from a minimum is unknown.
    """
    if molecule.start in starts:
        return starts.index(molecule.start)
    return 0 if knows_start(molecule, model) else -1


def lowered(molecules: Sequence[Molecule], starts: Sequence[str]) -> list[Molecule]:
    """Relax molecules at the last of several levels of starts.

    Molecules whose relaxation fails, or gives a different molecule, are returned unchanged.
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
    """Relax molecules from lower levels of starts at the best one; return others unchanged."""
    found, best = list(molecules), len(starts) - 1
    chosen = [i for i, m in enumerate(found) if 0 <= place_of_start(m, model, starts) < best]
    for i, end in zip(chosen, lowered([found[i] for i in chosen], starts), strict=True):
        found[i] = end
    return found


def settled(molecules: Sequence[Molecule], model: Model, starts: Sequence[str]) -> list[Molecule]:
    """Relax geometries that are not at a minimum to starts that a model knows.

    They are relaxed with a force field first if the best level of starts fails, or if a group is
    twisted out of conjugation, which AIMNet2 may not correct.
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
