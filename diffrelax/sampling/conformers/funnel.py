"""From geometries of the model to the minima of a level of theory, in two steps.

Near their minima, duplicates show, and what is high. Only the rest is relaxed to the end. DFT goes
near a minimum by one gradient, from which the minimum and its energy are predicted, see
`diffrelax.dft.prediction`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf, isnan
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from diffrelax.cache import Unit, WorkFolder, work_key
from diffrelax.dft.optimization import relax_with
from diffrelax.dft.settings import CurvatureLevel, DFTSettings
from diffrelax.levels import relax_at_level
from diffrelax.levels.force_field import KCAL_PER_MOL
from diffrelax.molecule import Molecule
from diffrelax.sampling.conformers.record import Conformer, merge, within
from diffrelax.sampling.ensemble import Level

NEAR = 0.05  # eV/Å
STILL = 0.5 * KCAL_PER_MOL  # that a geometry as near may fall
FMAX = 0.002  # eV/Å; at 0.01, floppy molecules end up to 0.2 Å from their minimum, and count twice
FMAX_OF_DFT = 0.01  # whose calls are dear, and which starts from far fewer

RelaxOne = Callable[[Conformer], tuple[Conformer, str]]


@dataclass(frozen=True)
class Funnel:
    """What is done with each geometry, and which are kept.

    Parameters
    ----------
    level : Level
        Of theory.
    folder : WorkFolder
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
        If the window is not positive, or another level than DFT is to have free energies.
    """

    level: Level
    folder: WorkFolder
    window: float = inf
    thermo: CurvatureLevel = "none"
    temperature: float = 298.15

    def __post_init__(self) -> None:
        if not self.window > 0:
            raise ValueError(f"window {self.window} kcal/mol: give a positive number")
        if self.thermo != "none" and self.level.name != "dft":
            raise ValueError(f"level {self.level.name} has no free energies here: take dft")

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

    def keep(self, near: Sequence[Conformer]) -> tuple[list[Conformer], str]:
        """Return those that may be distinct minima within the window, and a note."""
        distinct = merge(sorted(near, key=lambda one: one.energy))
        low = within(distinct, self.window * KCAL_PER_MOL + STILL)
        told = (
            f"of {len(near)} that came near minima of {self.level}, {len(near) - len(distinct)} "
            f"were known and {len(distinct) - len(low)} too high"
        )
        return low, told

    def finish(self, near: Conformer) -> tuple[Conformer, str]:
        """Relax a geometry to its minimum, once for each folder; see `approach`."""
        gas = {"thermo": self.thermo, "temperature": self.temperature}
        return self._relax(near, {"fmax": self.fmax} | (gas if self.thermo != "none" else {}))

    def _relax(self, start: Conformer, more: dict[str, Any]) -> tuple[Conformer, str]:
        settings = {"level": self.level.model_dump(mode="json"), **more}
        key = work_key("conformer", start.molecule, settings)

        def whole(record: Unit) -> Unit | None:  # or the level or its program may not fail again
            return record if record["energy"] is not None else None

        def work() -> Unit:
            return _relax(start.molecule, self.level, more, self.folder.checkpoint(key))

        done = self.folder.find_or_do(key, work, whole, whole)
        if done["reason"]:
            return start, done["reason"]
        molecule = start.molecule.with_positions(np.array(done["positions"]), start.molecule.start)
        free_energy = done.get("free_energy")
        end = replace(start, molecule=molecule, energy=done["energy"], free_energy=free_energy)
        return end, ""


def relax_each(
    starts: Sequence[Conformer], relax: RelaxOne, *, told: str = "", progress: bool = False
) -> tuple[list[Conformer], list[str]]:
    """Relax geometries by a step of a `Funnel`.

    Parameters
    ----------
    starts : sequence of Conformer
    relax : callable
    told : str
        Beside the progress bar.
    progress : bool

    Returns
    -------
    list of Conformer
        Those that come to their end.
    list of str
        Why the others did not.
    """
    ends, notes = [], []
    for start in tqdm(starts, told, unit="conf", disable=None if progress else True):
        end, reason = relax(start)
        if reason:
            notes.append(f"{start.start}: {reason}")
        else:
            ends.append(end)
    return ends, notes


def _relax(molecule: Molecule, level: Level, more: dict[str, Any], checkpoint: Path | None) -> Unit:
    settings: dict[str, Any] = {**level.settings, **more}
    free: dict[str, float] = {}
    if level.name == "dft":
        dft = relax_with(molecule, DFTSettings(**settings), checkpoint=checkpoint)
        positions, energy, reason = dft.molecule.positions, dft.energy, dft.reason
        if gas := dft.thermochemistry:
            free = {"free_energy": gas.gibbs_energy_quasi_harmonic}
        elif not reason and settings.get("thermo"):
            reason = f"no free energy: {'; '.join(dft.notes)}"
    else:
        relaxed = relax_at_level(molecule, level.name, **settings)
        positions, energy, reason = relaxed.positions, relaxed.energy, relaxed.reason
    known = None if isnan(energy) else energy
    return {"positions": positions.tolist(), "energy": known, "reason": reason, **free}
