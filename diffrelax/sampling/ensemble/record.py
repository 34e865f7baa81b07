"""The record of an ensemble."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import ase
import numpy as np

from diffrelax.atomic import DAMAGED
from diffrelax.errors import InputError
from diffrelax.files.writing import check_output
from diffrelax.molecule import Molecule
from diffrelax.sampling.ensemble.files import READERS, WRITERS
from diffrelax.sampling.ensemble.provenance import EnsembleProvenance, LevelSettings
from diffrelax.sampling.ensemble.weights import boltzmann_weights, check_temperature

TOLERANCE = 1e-6  # of the sum of weights


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Geometries of one molecule, with Boltzmann weights at a level of theory.

    Arrays are stored read-only.

    Parameters
    ----------
    molecule : Molecule
        What the frames have in common; it is put at the positions of the first frame.
    positions : (n, n_atoms, 3) array, Å
    energies : (n,) array, eV
        At ``level``.
    weights : (n,) array
        Not negative, their sum is 1.
    temperature : float, K
    level : LevelSettings
    starts : tuple of str
        Where each frame comes from, such as ``"etkdg"`` or ``"chain 3"``.
    provenance : EnsembleProvenance
    columns : mapping from str to (n,) array
        Other numbers that belong to each frame.

    Raises
    ------
    ValueError
        If there are no frames, a shape does not fit, a number is not finite, weights are negative
        or do not add up to 1, or the temperature is not positive.
    """

    molecule: Molecule
    positions: np.ndarray
    energies: np.ndarray
    weights: np.ndarray
    temperature: float
    level: LevelSettings
    starts: tuple[str, ...]
    provenance: EnsembleProvenance
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        n = len(self.positions)
        shapes = {"positions": (n, self.molecule.n_atoms, 3), "energies": (n,), "weights": (n,)}
        for name, shape in shapes.items():
            object.__setattr__(self, name, _frozen(name, getattr(self, name), shape))
        columns = {name: _frozen(name, column, (n,)) for name, column in self.columns.items()}
        object.__setattr__(self, "columns", columns)
        object.__setattr__(self, "starts", tuple(self.starts))
        if len(self.starts) != n:
            raise InputError(f"{len(self.starts)} starts for {n} frames: give one for each")
        if n == 0 or (self.weights < 0).any() or abs(self.weights.sum() - 1) > TOLERANCE:
            raise InputError(
                f"{n} weights with the sum {self.weights.sum()}: they must add up to 1, none "
                "negative"
            )
        first = self.molecule.with_positions(self.positions[0], self.molecule.start)
        object.__setattr__(self, "molecule", first)

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def effective_sample_size(self) -> float:
        """Kish's effective sample size, (Σw)² / Σw² (Kish 1965, Survey Sampling).

        From 1, where one frame has all the weight, to the number of frames. It knows nothing of
        correlation between frames: for a Markov chain it is an upper bound.
        """
        return float(self.weights.sum() ** 2 / (self.weights**2).sum())

    @property
    def molecules(self) -> list[Molecule]:
        """The frames as molecules, their ``start`` that of the frame."""
        return [
            self.molecule.with_positions(positions, start)
            for positions, start in zip(self.positions, self.starts, strict=True)
        ]

    @property
    def atoms(self) -> list[ase.Atoms]:
        """The frames as ASE atoms; ``info`` holds energy_ev, weight, start and the columns."""
        frames = [molecule.to_atoms() for molecule in self.molecules]
        for frame, info in zip(frames, self.infos, strict=True):
            frame.info |= info
        return frames

    def select(self, frames: np.ndarray) -> Self:
        """Keep some of the frames, weighted as before among themselves.

        Parameters
        ----------
        frames : (n,) bool array

        Raises
        ------
        ValueError
            If none is kept.
        """
        weights = self.weights[frames]
        return replace(
            self,
            positions=self.positions[frames],
            energies=self.energies[frames],
            weights=weights / (weights.sum() or 1.0),
            starts=tuple(np.array(self.starts)[frames].tolist()),
            columns={name: column[frames] for name, column in self.columns.items()},
        )

    def reweighted(self, energies: np.ndarray, level: LevelSettings) -> Self:
        """Weight the same frames at another level of theory, at the same temperature.

        Each weight is multiplied by exp(−(E' − E)/kT) (Zwanzig 1954, doi 10.1063/1.1740409), so
        samples that were canonical at the old level are canonical at the new one. How far to trust
        that is told by `effective_sample_size`: where it is small, the two levels disagree about
        which geometries matter, and averages rest on few frames.

        Parameters
        ----------
        energies : (n,) array, eV
            Of each frame at the new level.
        level : LevelSettings

        Raises
        ------
        ValueError
            If the energies are not one finite number for each frame.
        """
        energies = _frozen("energies", energies, self.energies.shape)
        weights = boltzmann_weights(energies - self.energies, self.temperature, self.weights)
        history = (*self.provenance.reweighted_from, self.level)
        provenance = self.provenance.model_copy(update={"reweighted_from": history})
        return replace(self, energies=energies, weights=weights, level=level, provenance=provenance)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the ensemble to a file, all or nothing: .h5, .sdf or .extxyz.

        ``.h5`` keeps every bit, ``.sdf`` rounds positions to 0.0001 Å and ``.extxyz`` to 1e-8 Å.

        Raises
        ------
        ValueError
            If the suffix is unknown.
        OSError
            If the file cannot be written.
        """
        path = Path(path)
        check_output(path, WRITERS)
        WRITERS[path.suffix.lower()](path, self)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read an ensemble that `write` has written.

        Raises
        ------
        ValueError
            If the suffix is unknown, or the file does not hold an ensemble.
        OSError
            If the file cannot be read.
        """
        path = Path(path)
        if path.suffix.lower() not in READERS:
            raise InputError(f"{path} has an unknown suffix: use {', '.join(READERS)}")
        if not path.is_file():
            raise FileNotFoundError(f"no such file: {path}; check the path")
        try:
            return cls(**READERS[path.suffix.lower()](path))
        except (OSError, *DAMAGED) as error:
            if isinstance(error, OSError) and error.errno:  # not of what is in the file
                raise
            raise InputError(f"{path} is not an ensemble: {error}") from error

    @property
    def infos(self) -> list[dict[str, Any]]:
        """What belongs to each frame beside its positions: the ``info`` of `atoms`."""
        columns = {"energy_ev": self.energies, "weight": self.weights, **self.columns}
        return [
            {"start": start, **{name: column[i].item() for name, column in columns.items()}}
            for i, start in enumerate(self.starts)
        ]


def _frozen(name: str, values: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = np.array(values)
    if not np.issubdtype(array.dtype, np.integer):
        array = array.astype(np.float64)
    if array.shape != shape:
        raise InputError(f"{name} of the shape {array.shape}: must be {shape}")
    if not np.isfinite(array).all():
        raise InputError(f"{name} must be finite")
    array.flags.writeable = False
    return array
