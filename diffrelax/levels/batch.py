"""Relaxation of many molecules at a cheap level, in joint calls where that is cheaper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import nan

from diffrelax.clock import NO_TIME, Time
from diffrelax.extras import NotInstalledError
from diffrelax.levels.calculators import level_class
from diffrelax.levels.minimisation import LevelRelaxation, relax_at_level, why_not
from diffrelax.levels.side_by_side import MAX_CALLS, relax_side_by_side
from diffrelax.molecule import Molecule


def relax_many(
    molecules: Sequence[Molecule], level: str, *, fmax: float = 0.03
) -> list[LevelRelaxation]:
    """Relax molecules at a cheap level of theory.

    Many molecules share a call where that is cheaper, as with AIMNet2; else they run one by one.

    Parameters
    ----------
    molecules : sequence of Molecule
    level : str
        See `get_calculator`.
    fmax : float
        Converged when the force on each atom is below this, eV/Å.

    Returns
    -------
    list of LevelRelaxation
        In the order of the molecules. If the level cannot describe a molecule, its ``reason`` says
        so. If molecules share calls, the time is divided equally.
    """
    chosen = level_class(level)
    evaluate = chosen.for_many()
    ends: dict[int, LevelRelaxation] = {}
    able = []
    for i, molecule in enumerate(molecules):
        try:
            if evaluate:
                chosen.check_molecule(molecule)
                able.append(replace(molecule, name=str(i)))
            else:
                ends[i] = relax_at_level(molecule, level, fmax=fmax, max_steps=MAX_CALLS - 1)
        except NotInstalledError:
            raise
        except ValueError as error:
            ends[i] = LevelRelaxation(molecule.positions, nan, nan, None, str(error), NO_TIME)
    able.sort(key=lambda molecule: molecule.n_atoms)
    begun = Time.now()
    found = list(relax_side_by_side(able, evaluate, fmax=fmax)) if evaluate else []
    time = (Time.now() - begun) / max(1, len(found))
    for end in found:
        work = f"{end.n_calls} calls"
        reason = why_not(end.molecule, end.positions, end.fmax, fmax, work)
        ends[int(end.molecule.name)] = LevelRelaxation(
            end.positions, end.energy, end.fmax, end.n_calls, reason, time
        )
    return [ends[i] for i in range(len(molecules))]
