"""Energies that are kept as they are calculated, so that a killed run goes on from them."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffrelax.levels import Surface
from diffrelax.molecule import Molecule
from diffrelax.sampling.ensemble import Level

TAG_BYTES = 16
RECORD = struct.Struct(f"<{TAG_BYTES}sd")  # tag of a geometry, and its energy, eV


class RememberedSurface(Surface):
    """A surface whose energies are kept in a file, where they are looked up by the geometry.

    Chains are deterministic but for rounding, so a run that is made again asks for the same
    energies. A geometry without an energy is not kept: it is asked for again.

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
        If the file is that of another run.
    """

    def __init__(
        self, molecule: Molecule, level: str, path: Path, run: Mapping[str, Any], **settings: Any
    ) -> None:
        super().__init__(molecule, level, **settings)
        header = (json.dumps(dict(run), sort_keys=True) + "\n").encode()
        kept = path.read_bytes() if path.exists() else b""
        if not kept.startswith(header[: len(kept)]):
            raise ValueError(
                f"{path} belongs to another run: delete it, name another file, or give --overwrite"
            )
        n_whole = max(0, len(kept) - len(header)) // RECORD.size
        self._path, self._end = path, len(header) + n_whole * RECORD.size
        self._known: dict[bytes, float] = dict(RECORD.iter_unpack(kept[len(header) : self._end]))
        if len(kept) < len(header):
            self._end = 0
            self._keep(header)

    def energies(self, positions: np.ndarray) -> np.ndarray:
        """Return energies from the file, or evaluate and keep them, see `Surface`."""
        tags = [hashlib.sha256(geometry.tobytes()).digest()[:TAG_BYTES] for geometry in positions]
        missing = [i for i, tag in enumerate(tags) if tag not in self._known]
        energies = np.array([self._known.get(tag, np.inf) for tag in tags])
        self.n_calls += len(positions) - len(missing)
        if missing:
            energies[missing] = super().energies(positions[missing])
            new = {tags[i]: float(energies[i]) for i in missing if np.isfinite(energies[i])}
            self._known |= new
            self._keep(b"".join(RECORD.pack(*record) for record in new.items()))
        return energies

    def _keep(self, data: bytes) -> None:
        """Write behind what is kept, and drop what a kill has left there."""
        with self._path.open("r+b" if self._path.exists() else "wb") as file:
            file.seek(self._end)
            file.truncate()
            file.write(data)
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
