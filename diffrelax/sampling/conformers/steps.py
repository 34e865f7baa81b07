"""The steps of a search for conformers, each of which is done once for each store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal

import ase
import numpy as np

from diffrelax.errors import InputError, each_or_error
from diffrelax.geometry import angles_apart
from diffrelax.levels import get_calculator
from diffrelax.levels.calculators import level_class
from diffrelax.levels.force_field import ForceField
from diffrelax.models.release import Model
from diffrelax.molecule import Molecule
from diffrelax.molecule.reembedding import embed_again
from diffrelax.molecule.torsions import torsion_angles
from diffrelax.relaxation import relax_molecules
from diffrelax.sampling.ensemble import LevelSettings
from diffrelax.store import Store, Unit, work_key

MINIMISER_STEPS = 1000
SAME_WELL = np.radians(45)


@dataclass(frozen=True)
class Steps:
    """What is done with geometries of a molecule, or found in a store.

    Parameters
    ----------
    molecule : Molecule
    model : Model
    model_level : str
        Level of theory of the model, one that it has learned.
    level : LevelSettings
        A cheap one, that tells energies.
    store : Store
    kind : str
        Of the units.
    """

    molecule: Molecule
    model: Model
    model_level: str
    level: LevelSettings
    store: Store
    kind: str

    def embed(self, seed: int, method: Literal["KDG", "ETKDGv3"]) -> Molecule:
        """Embed the molecule, see `embed_again`."""
        key = work_key("embed", self.molecule, {"method": method}, seed=seed)
        return self._moved(
            self._find_or_do(key, lambda: _written(embed_again(self.molecule, seed, method)))
        )

    def relax_roughly(
        self,
        positions: np.ndarray,
        force_field: ForceField,
        torsions: np.ndarray,
        wells: np.ndarray,
    ) -> Molecule:
        """Relax a turned geometry by a force field, and leave it in its well.

        Parameters
        ----------
        positions : (n_atoms, 3) array, Å
        force_field : ForceField
        torsions : (n_torsions, 4) array
            That are held at first.
        wells : (n_wells, 4) array
            Torsions that tell wells apart.
        """
        key = work_key("turn", self.molecule.with_positions(positions), {})

        def relax() -> Unit:
            held = force_field.minimise_held(positions, MINIMISER_STEPS, torsions.tolist())
            free = force_field.minimise_held(held, MINIMISER_STEPS)
            there, relaxed = (torsion_angles(here, wells) for here in (positions, free))
            rough = free if same_wells(relaxed, there) else held
            return _written(self.molecule.with_positions(rough, force_field.level))

        return self._moved(self._find_or_do(key, relax))

    def relax_free(self, positions: np.ndarray, force_field: ForceField) -> Molecule:
        """Relax a geometry by a force field."""
        key = work_key("kick", self.molecule.with_positions(positions), {})

        def relax() -> Unit:
            free = force_field.minimise_held(positions, MINIMISER_STEPS)
            return _written(self.molecule.with_positions(free, force_field.level))

        return self._moved(self._find_or_do(key, relax))

    def relax(self, molecules: Sequence[Molecule]) -> list[Molecule]:
        """Relax geometries by the model; those that it does not relax stay as they are."""
        settings = {"level": self.model_level}
        key_of = partial(work_key, "model", settings=settings, model_sha256=self.model.sha256)
        keys = [key_of(molecule=one) for one in molecules]
        done = [unit for key in keys if (unit := self.store.find(key))]
        if len(done) < len(molecules):
            ends = relax_molecules(molecules, self.model, level=self.model_level)
            relaxed = [
                end.molecule if end.verdict == "relaxed" and end.molecule else molecule
                for molecule, end in zip(molecules, ends, strict=True)
            ]
            done = list(map(_written, relaxed))
            self.store.keep_all(dict(zip(keys, done, strict=True)), self.kind)
        return list(map(self._moved, done))

    def energies(self, molecules: Sequence[Molecule]) -> list[float | Exception]:
        """Evaluate the energies of geometries, eV, at the level; an error where there is none."""
        settings = self.level.model_dump(mode="json")
        keys = [work_key("energy", one, settings) for one in molecules]
        known = {i: unit["energy"] for i, key in enumerate(keys) if (unit := self.store.find(key))}
        new = [i for i in range(len(molecules)) if i not in known]
        found = each_or_error(self._evaluate, [molecules[i] for i in new])
        known |= dict(zip(new, found, strict=True))
        units = {keys[i]: {"energy": known[i]} for i in new if not isinstance(known[i], Exception)}
        self.store.keep_all(units, self.kind)
        return [known[i] for i in range(len(molecules))]

    def _evaluate(self, molecules: Sequence[Molecule]) -> list[float]:
        if evaluate := level_class(self.level.name).for_many():
            energies = evaluate(molecules, [one.positions for one in molecules])[0].tolist()
        else:
            energies = []
            for one in molecules:
                self._atoms.positions = one.positions
                energies.append(float(self._atoms.get_potential_energy()))
        if not np.isfinite(energies).all():
            raise InputError("the energy is not finite")
        return energies

    @cached_property
    def _atoms(self) -> ase.Atoms:
        atoms = self.molecule.to_atoms()
        atoms.calc = get_calculator(self.level.name, self.molecule, **self.level.settings)
        return atoms

    def _find_or_do(self, key: str, work: Callable[[], Unit]) -> Unit:
        unit = self.store.find(key)
        if unit is None:
            unit = work()
            self.store.keep_soon(key, unit, self.kind)
        return unit

    def _moved(self, unit: Unit) -> Molecule:
        return self.molecule.with_positions(np.array(unit["positions"]), unit["start"])


def same_wells(some: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Compare torsions, (..., n_torsions) and (n_torsions,), radians; return (...) bool."""
    return (angles_apart(some, other) < SAME_WELL).all(axis=-1)


def _written(molecule: Molecule) -> Unit:
    return {"positions": molecule.positions, "start": molecule.start}
