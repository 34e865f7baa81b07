"""From geometries of the model to the minima of a level of theory, in two steps.

Near their minima, duplicates show, and what is high. Only the rest is relaxed to the end. DFT goes
near a minimum by one gradient, from which the minimum and its energy are predicted, see
`diffrelax.dft.prediction`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from math import inf, isnan, nan
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from diffrelax.choices import CurvatureLevel
from diffrelax.dft.optimization import relax_with
from diffrelax.dft.settings import DFTSettings
from diffrelax.errors import OF_THE_MACHINE, InputError, reason_of
from diffrelax.files.processes import ordered_map
from diffrelax.levels import relax_at_level
from diffrelax.molecule import Molecule
from diffrelax.sampling.conformers.record import Conformer, merge, within
from diffrelax.sampling.ensemble import Level
from diffrelax.store import Store, Unit, work_key
from diffrelax.units import KCAL_PER_MOL

NEAR = 0.05  # eV/Å
STILL = 0.5 * KCAL_PER_MOL  # that a geometry as near may fall
FMAX = 0.002  # eV/Å; at 0.01, floppy molecules end up to 0.2 Å from their minimum, and count twice
FMAX_OF_DFT = 0.01  # eV/Å; forces on an integration grid need not vanish: of B3LYP's 0.004 stayed

RelaxOne = Callable[[Conformer], tuple[Conformer, str]]


@dataclass(frozen=True)
class Funnel:
    """What is done with each geometry, and which are kept.

    Parameters
    ----------
    level : Level
        Of theory.
    folder : Store
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

    level: Level
    folder: Store
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

    def approach(self, start: Conformer) -> tuple[Conformer, str]:
        """Bring a geometry near its minimum, once for each folder.

        Returns
        -------
        Conformer
        str
            Why it did not come there; empty if it did.
        """
        one_call = {"one_call": True} if self.level.name == "dft" else {}
        return self._relax(start, {"fmax": NEAR} | one_call)

    def choose(self, near: Sequence[Conformer]) -> tuple[list[Conformer], list[str]]:
        """Choose those that may be distinct minima within the window; and a note, if any came."""
        if not near:
            return [], []
        distinct = merge(sorted(near, key=lambda one: one.energy))
        low = within(distinct, self.window * KCAL_PER_MOL + STILL)
        told = (
            f"of {len(near)} that came near minima of {self.level}, {len(near) - len(distinct)} "
            f"were known and {len(distinct) - len(low)} too high"
        )
        return low, [told]

    def finish(self, near: Conformer) -> tuple[Conformer, str]:
        """Relax a geometry to its minimum, once for each folder; see `approach`."""
        return self._relax(near, self._end)

    @property
    def _end(self) -> dict[str, Any]:
        if self.thermo == "none":
            return {"fmax": self.fmax}
        gas = {"thermo": self.thermo, "temperature": float(self.temperature)}
        return {"fmax": self.fmax} | gas

    def _relax(self, start: Conformer, more: dict[str, Any]) -> tuple[Conformer, str]:
        settings = {"level": self.level.model_dump(mode="json"), **more}
        key = work_key("conformer", start.molecule, settings)

        def whole(record: Unit) -> Unit | None:  # or the level or its program may not fail again
            return record if record["energy"] is not None else None

        def work() -> Unit:
            try:
                if self.level.name == "dft":
                    return _relax_by_dft(start.molecule, self.level.dft(**more), self.folder)
                return _relax_at_level(start.molecule, self.level, **more)
            except OF_THE_MACHINE:
                raise
            except Exception as error:  # one conformer never costs the others
                return _unit(start.molecule.positions, nan, reason_of(error))

        done = self.folder.find_or_do(key, work, whole, whole)
        if done["reason"]:
            return start, done["reason"]
        molecule = start.molecule.with_positions(np.array(done["positions"]), self.level.name)
        end = replace(
            start,
            molecule=molecule,
            energy=done["energy"],
            free_energy=done.get("free_energy"),
            notes=tuple(done.get("notes", ())),
        )
        return end, ""


def relax_starts(
    starts: Sequence[Conformer],
    relax: RelaxOne,
    *,
    workers: int = 1,
    label: str = "",
    progress: bool = False,
) -> tuple[list[Conformer], list[str]]:
    """Relax geometries by a step of a `Funnel`.

    Parameters
    ----------
    starts : sequence of Conformer
    relax : callable
    workers : int
        Number of processes.
    label : str
        Of the progress bar.
    progress : bool

    Returns
    -------
    list of Conformer
        Those that come to their end.
    list of str
        Why the others did not.
    """
    quiet = None if progress else True
    with closing(ordered_map(relax, starts, workers, _lost, None)) as ends:
        return sort_out(starts, tqdm(ends, label, len(starts), unit="conf", disable=quiet))


def _lost(start: Conformer, reason: str) -> tuple[Conformer, str]:
    return start, reason


def sort_out(
    starts: Sequence[Conformer], ends: Iterable[tuple[Conformer, str]]
) -> tuple[list[Conformer], list[str]]:
    """Tell ends that were reached from why the others were not, see `relax_starts`."""
    reached, notes = [], []
    lowest = min((start.energy for start in starts), default=0.0)
    for start, (end, reason) in zip(starts, ends, strict=True):
        if reason:
            above = (start.energy - lowest) / KCAL_PER_MOL
            notes.append(f"{start.start}, {above:.1f} kcal/mol above the lowest, is lost: {reason}")
        else:
            reached.append(end)
    return reached, notes


def _relax_by_dft(molecule: Molecule, settings: DFTSettings, folder: Store) -> Unit:
    dft = relax_with(molecule, settings, store=folder)
    gas = dft.thermochemistry
    free_energy = gas.gibbs_energy_quasi_harmonic if gas else None
    told = {"free_energy": free_energy, "notes": list(dft.notes)}
    return _unit(dft.molecule.positions, dft.energy, dft.reason) | told


def _relax_at_level(molecule: Molecule, level: Level, **more: Any) -> Unit:
    relaxed = relax_at_level(molecule, level.name, **{**level.settings, **more})
    return _unit(relaxed.positions, relaxed.energy, relaxed.reason)


def _unit(positions: np.ndarray, energy: float, reason: str) -> Unit:
    known = None if isnan(energy) else energy
    return {"positions": positions.tolist(), "energy": known, "reason": reason}
