"""Energies that are kept as they are calculated, so that a killed run goes on from them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffrelax.atomic import claim
from diffrelax.errors import InputError
from diffrelax.levels import Surface
from diffrelax.molecule import Molecule
from diffrelax.sampling.ensemble import Level

TAG_BYTES = 16
RECORD = struct.Struct(f"<{TAG_BYTES}sd")  # tag of a geometry, and its energy, eV
DECIMALS = 7  # Å: processors differ in later ones


class RememberedSurface(Surface):
    """A surface whose energies are kept in a file, where they are looked up by the geometry.

    Chains are deterministic but for rounding, so a run that is made again asks for the same
    energies. A geometry without an energy is not kept: it is asked for again. Its process alone may
    use the file until the surface is gone.

    Parameters
    ----------
    molecule : Molecule
    level : str
    path : path
        A line of JSON with what the energies belong to, then a tag of each geometry and its energy.
    run : mapping
        What decides which energies are asked for, plain values.
    **settings
        Of the level.

    Raises
    ------
    ValueError
        If the file is that of another run, or in use.
    """

    def __init__(
        self, molecule: Molecule, level: str, path: Path, run: Mapping[str, Any], **settings: Any
    ) -> None:
        super().__init__(molecule, level, **settings)
        header = (json.dumps(dict(run), sort_keys=True) + "\n").encode()
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        claim(self._file, path, fcntl.lockf)
        kept = self._file.read()
        if not kept.startswith(header[: len(kept)]):
            raise InputError(
                f"{path} belongs to another run: delete it, name another file, or give --overwrite"
            )
        n_whole = max(0, len(kept) - len(header)) // RECORD.size
        self._end = len(header) + n_whole * RECORD.size
        self._known: dict[bytes, float] = dict(RECORD.iter_unpack(kept[len(header) : self._end]))
        if len(kept) < len(header):
            self._end = 0
            self._keep(header)

    def energies(self, positions: np.ndarray) -> np.ndarray:
        """Return energies from the file, or evaluate and keep them, see `Surface`."""
        return np.array([self._energy_of(geometry) for geometry in positions])

    def _energy_of(self, geometry: np.ndarray) -> float:
        tag = hashlib.sha256((geometry.round(DECIMALS) + 0.0).tobytes()).digest()[:TAG_BYTES]
        if tag in self._known:
            self.n_calls += 1
            return self._known[tag]
        energy = float(super().energies(geometry[None])[0])
        if np.isfinite(energy):
            self._known[tag] = energy
            self._keep(RECORD.pack(tag, energy))
        return energy

    def _keep(self, data: bytes) -> None:
        """Write behind what is kept, and drop what a kill has left there."""
        self._file.seek(self._end)
        self._file.truncate()
        self._file.write(data)
        self._file.flush()
        self._end += len(data)


def surface_at(
    molecule: Molecule,
    level: Level,
    checkpoint: str | os.PathLike[str] | None,
    run: Mapping[str, Any],
) -> Surface:
    """Return the surface of a level, which keeps its energies if there is a file for them."""
    if checkpoint is None:
        return Surface(molecule, level.name, **level.settings)
    return RememberedSurface(molecule, level.name, Path(checkpoint), run, **level.settings)
