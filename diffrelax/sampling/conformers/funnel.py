"""From geometries of the model to the minima of a level of theory, in two steps.

Near their minima, duplicates show, and what is high. Only the rest is relaxed to the end. DFT goes
near a minimum by one gradient, from which the minimum and its energy are predicted, see
`diffrelax.dft.prediction`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from math import inf, isnan, nan
from typing import Any

import numpy as np

from diffrelax.choices import CurvatureLevel
from diffrelax.dft.optimization import relax_with
from diffrelax.dft.settings import DFTSettings
from diffrelax.errors import MACHINE_ERRORS, InputError, each_or_error, reason_of
from diffrelax.files.processes import ordered_map
from diffrelax.levels import relax_at_level
from diffrelax.levels.batch import relax_many
from diffrelax.levels.calculators import level_class
from diffrelax.molecule import Molecule
from diffrelax.progress import progress_bar
from diffrelax.sampling.conformers.record import Conformer, merge, within
from diffrelax.sampling.ensemble import LevelSettings
from diffrelax.store import Store, Unit, work_key
from diffrelax.units import KCAL_PER_MOL

PART = 64  # geometries that are relaxed side by side, where the level can
NEAR = 0.05  # eV/Å
STILL = 0.5 * KCAL_PER_MOL  # that a geometry as near may fall
FMAX = 0.002  # eV/Å; at 0.01, floppy molecules end up to 0.2 Å from their minimum, and count twice
FMAX_OF_DFT = 0.01  # eV/Å; forces on an integration grid need not vanish: of B3LYP's 0.004 stayed

End = tuple[Conformer, str]  # and why it was not reached


@dataclass(frozen=True)
class Funnel:
    """What is done with each geometry, and which are kept.

    Parameters
    ----------
    level : LevelSettings
        Of theory.
    store : Store
        Keeps what is done.
    window : float, kcal/mol
        Above the lowest.
    thermo : {"none", "gfn2-xtb", "dft"}
        Level of the Hessian of free energies, if DFT is the level of theory.
    temperature : float, K
        Of these.

    Raises
    ------
    ValueError
        If the window is not positive, a setting of DFT is wrong, or another level is to have free
        energies.
    """

    level: LevelSettings
    store: Store
    window: float = inf
    thermo: CurvatureLevel = "none"
    temperature: float = 298.15

    def __post_init__(self) -> None:
        if not self.window > 0:
            raise InputError(f"window {self.window} kcal/mol: give a positive number")
        self.level.check_thermo(self.thermo)

    @property
    def fmax(self) -> float:
        """Largest force at the end, eV/Å."""
        return FMAX_OF_DFT if self.level.name == "dft" else FMAX

    def approach_each(self, starts: Sequence[Conformer], *, workers: int = 1) -> Generator[End]:
        """Bring geometries near their minima and yield the end of each; see `approach`."""
        yield from self._each(starts, self._near, workers)

    @property
    def _near(self) -> dict[str, Any]:
        return {"fmax": NEAR} | ({"one_call": True} if self.level.name == "dft" else {})

    def approach(
        self, starts: Sequence[Conformer], *, workers: int = 1, progress: bool = False
    ) -> list[End]:
        """Bring geometries near their minima, each once for each store.

        Parameters
        ----------
        starts : sequence of Conformer
        workers : int
            Processes that relax at a cheap level. DFT, which has threads of its own, has one.
        progress : bool
            Show a progress bar on standard error.

        Returns
        -------
        list of (Conformer, str)
            Each end, and why it was not reached; empty if it was.
        """
        return self._relax(starts, self._near, "near minima", workers=workers, progress=progress)

    def choose(self, near: Sequence[Conformer]) -> tuple[list[Conformer], list[str]]:
        """Choose those that may be distinct minima within the window; and a note, if any came."""
        if not near:
            return [], []
        distinct = merge(sorted(near, key=lambda one: one.energy))
        low = within(distinct, self.window * KCAL_PER_MOL + STILL)
        note = (
            f"of {len(near)} close to minima of {self.level}, {len(near) - len(distinct)} "
            f"were duplicates and {len(distinct) - len(low)} too high"
        )
        return low, [note]

    def finish(
        self, near: Sequence[Conformer], *, workers: int = 1, progress: bool = False
    ) -> list[End]:
        """Relax geometries to their minima, each once for each store; see `approach`."""
        gas = {"thermo": self.thermo, "temperature": float(self.temperature)}
        more = {"fmax": self.fmax} | (gas if self.thermo != "none" else {})
        return self._relax(near, more, "minima", workers=workers, progress=progress)

    def _relax(
        self,
        starts: Sequence[Conformer],
        more: dict[str, Any],
        what: str,
        *,
        workers: int,
        progress: bool,
    ) -> list[End]:
        label = f"{self.level.name}, {what}"
        with (
            closing(self._each(starts, more, workers)) as ends,
            progress_bar(len(starts), "geometry", label, show=progress) as bar,
        ):
            done = []
            for end in ends:
                done.append(end)
                bar.update()
            return done

    def _each(
        self, starts: Sequence[Conformer], more: dict[str, Any], workers: int
    ) -> Generator[End]:
        """Yield the end of each, in their order."""
        settings = {"level": self.level.model_dump(mode="json"), **more}
        keys = [work_key("conformer", start.molecule, settings) for start in starts]
        units = {i: unit for i, key in enumerate(keys) if (unit := self.store.find(key))}
        new = [start.molecule for i, start in enumerate(starts) if i not in units]
        with closing(self._units(new, more, workers)) as done:
            for i, start in enumerate(starts):
                if i not in units:
                    units[i] = next(done)
                    if units[i]["energy"] is not None:  # or it may not fail again
                        self.store.keep(keys[i], units[i])
                yield self._end(start, units[i])

    def _units(
        self, molecules: Sequence[Molecule], more: dict[str, Any], workers: int
    ) -> Generator[Unit]:
        """Yield the units of relaxations: side by side, in processes, or one by one."""
        is_dft = self.level.name == "dft"
        if not is_dft and level_class(self.level.name).for_many():
            relax_part = partial(relax_many, level=self.level.name, fmax=more["fmax"])
            for first in range(0, len(molecules), PART):
                part = molecules[first : first + PART]
                ends = each_or_error(relax_part, part)
                for molecule, end in zip(part, ends, strict=True):
                    if isinstance(end, Exception):
                        yield _lost(molecule, reason_of(end))
                    else:
                        yield _unit(end.positions, end.energy, end.reason)
            return
        store = self.store if is_dft else None  # which no other process can take
        relax = partial(_relax_one, level=self.level, more=more, store=store)
        yield from ordered_map(relax, molecules, 1 if is_dft else workers, _lost, None)

    def _end(self, start: Conformer, done: Unit) -> End:
        if done["reason"]:
            return start, done["reason"]
        end = replace(
            start,
            molecule=start.molecule.with_positions(np.array(done["positions"]), self.level.name),
            energy=done["energy"],
            free_energy=done.get("free_energy"),
            notes=tuple(done.get("notes", ())),
        )
        return end, ""


def sort_out(
    starts: Sequence[Conformer], ends: Iterable[tuple[Conformer, str]]
) -> tuple[list[Conformer], list[str]]:
    """Return the ends that were reached, and why the others were not."""
    reached, notes = [], []
    lowest = min((start.energy for start in starts), default=0.0)
    for start, (end, reason) in zip(starts, ends, strict=True):
        if reason:
            above = (start.energy - lowest) / KCAL_PER_MOL
            notes.append(f"{start.start}, {above:.1f} kcal/mol above the lowest, failed: {reason}")
        else:
            reached.append(end)
    return reached, notes


def _relax_one(
    molecule: Molecule, level: LevelSettings, more: dict[str, Any], store: Store | None
) -> Unit:
    try:
        if level.name == "dft":
            return _relax_by_dft(molecule, level.dft(**more), store)
        relaxed = relax_at_level(molecule, level.name, **{**level.settings, **more})
        return _unit(relaxed.positions, relaxed.energy, relaxed.reason)
    except MACHINE_ERRORS:
        raise
    except Exception as error:  # one conformer never costs the others
        return _lost(molecule, reason_of(error))


def _relax_by_dft(molecule: Molecule, settings: DFTSettings, store: Store | None) -> Unit:
    dft = relax_with(molecule, settings, store=store)
    gas = dft.thermochemistry
    free_energy = gas.gibbs_energy_quasi_harmonic if gas else None
    more = {"free_energy": free_energy, "notes": list(dft.notes)}
    return _unit(dft.molecule.positions, dft.energy, dft.reason) | more


def _lost(molecule: Molecule, reason: str) -> Unit:
    return _unit(molecule.positions, nan, reason)


def _unit(positions: np.ndarray, energy: float, reason: str) -> Unit:
    known = None if isnan(energy) else energy
    return {"positions": positions.tolist(), "energy": known, "reason": reason}
