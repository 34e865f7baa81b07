"""Energies that are kept as they are calculated, so that a killed run continues with them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from diffrelax.levels import Surface
from diffrelax.molecule import Molecule
from diffrelax.sampling.ensemble import LevelSettings
from diffrelax.store import Store, atoms_of, work_key

DECIMALS = 7  # Å: processors differ in later ones
ENERGY = "energy"  # their kind


class RememberedSurface(Surface):
    """A surface whose energies are kept in a store, where they are found by the geometry.

    Chains are deterministic but for rounding, so a run that is made again asks for the same
    energies. A geometry without an energy is not kept: it is asked for again.

    Parameters
    ----------
    molecule : Molecule
    level : LevelSettings
    store : Store
    """

    def __init__(self, molecule: Molecule, level: LevelSettings, store: Store) -> None:
        super().__init__(molecule, level.name, **level.settings)
        settings = level.model_dump(mode="json")
        self._about = work_key(ENERGY, atoms_of(molecule), settings).encode()
        self._store = store

    def energies(self, positions: np.ndarray) -> np.ndarray:
        """Return energies from the store, or evaluate and keep them, see `Surface`."""
        return np.array([self._energy_of(geometry) for geometry in positions])

    def _energy_of(self, geometry: np.ndarray) -> float:
        rounded = (geometry.round(DECIMALS) + 0.0).tobytes()  # no negative zeros
        key = hashlib.sha256(self._about + rounded).hexdigest()
        if known := self._store.find(key):
            self.n_calls += 1
            return known["energy"]
        energy = float(super().energies(geometry[None])[0])
        if np.isfinite(energy):
            self._store.keep_soon(key, {"energy": energy}, ENERGY)
        return energy


@contextmanager
def surface_at(
    molecule: Molecule, level: LevelSettings, checkpoint: Store | str | os.PathLike[str] | None
) -> Iterator[Surface]:
    """Yield the surface of a level, which keeps its energies if there is a store for them."""
    if checkpoint is None:
        yield Surface(molecule, level.name, **level.settings)
        return
    store = Store.of(checkpoint)
    try:
        yield RememberedSurface(molecule, level, store)
    finally:
        store.flush()
