"""Energies that are kept as they are calculated, so that a killed run goes on from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffrelax.levels import Surface
from diffrelax.molecule import Molecule

TAG_BYTES = 16
NUMBER = np.dtype("<f8")


class RememberedSurface(Surface):
    """A surface whose energies are kept in a file, in the order in which they are asked for.

    Chains are deterministic but for rounding, so a run that is made again asks for the same
    energies, which are then read from the file. Where it asks for another geometry, for example
    because another processor rounds otherwise, the rest of the file is dropped.

    Parameters
    ----------
    molecule : Molecule
    level : str
    path : path
        A line of JSON with what the energies belong to, then for each call a tag of the geometries
        and their energies.
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
        self._path, self._at = path, len(header)
        self._kept = path.read_bytes() if path.exists() else b""
        if not self._kept.startswith(header[: len(self._kept)]):
            raise ValueError(
                f"{path} belongs to another run: delete it, name another file, or give --overwrite"
            )
        if len(self._kept) < len(header):
            self._keep(0, header)

    def energies(self, positions: np.ndarray) -> np.ndarray:
        """Return energies from the file, or evaluate and keep them, see `Surface`."""
        tag = hashlib.sha256(np.ascontiguousarray(positions).tobytes()).digest()[:TAG_BYTES]
        begin, end = self._at + TAG_BYTES, self._at + TAG_BYTES + len(positions) * NUMBER.itemsize
        if end <= len(self._kept) and self._kept[self._at : begin] == tag:
            energies = np.frombuffer(self._kept[begin:end], NUMBER).copy()
            self.n_calls += len(positions)
        else:
            energies = super().energies(positions)
            self._keep(self._at, tag + energies.astype(NUMBER).tobytes())
            self._kept = b""
        self._at = end
        return energies

    def _keep(self, at: int, data: bytes) -> None:
        """Write behind what is kept up to a place, and drop what stood there."""
        with self._path.open("r+b" if self._path.exists() else "wb") as file:
            file.seek(at)
            file.truncate()
            file.write(data)
