"""Packed sets of equilibrium geometries, and the batches that a training step reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from diffrelax.atomic import replacing


@dataclass(frozen=True, eq=False)
class GeometrySet:
    """Many molecules in flat arrays: each has a minimum and a start near it.

    Attributes
    ----------
    index : (n_molecules,) int array
        The molecule's number in its source, on which the split is defined. It comes back once for
        each level of theory that made starts, in the order of these levels.
    offsets : (n_molecules + 1,) int array
        Molecule ``i`` owns the atoms ``offsets[i]:offsets[i + 1]``.
    numbers : (n_atoms_total,) uint8 array
        Atomic numbers.
    positions : (n_atoms_total, 3) float32 array, Å
        The reference minimum, centred at the mean of its atoms.
    starts : (n_atoms_total, 3) float32 array, Å
        Relaxation of ``positions`` at a cheap level of theory, superposed on it. Undefined where
        ``start_rmsd`` is NaN.
    start_rmsd : (n_molecules,) float32 array, Å
        Aligned root mean square deviation of ``starts``; NaN where that level has no parameters
        or did not converge.
    start_torsion : (n_molecules,) float32 array, degrees
        Largest change of a torsion from ``positions`` to ``starts``.
    smiles : (n_molecules,) bytes array
        Isomeric SMILES, its stereochemistry read from ``positions``.
    """

    index: np.ndarray
    offsets: np.ndarray
    numbers: np.ndarray
    positions: np.ndarray
    starts: np.ndarray
    start_rmsd: np.ndarray
    start_torsion: np.ndarray
    smiles: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    @property
    def fingerprint(self) -> str:
        """Name of the minima and their order: a sha256, which starts do not enter."""
        place = np.stack([self.index, self.sizes]).astype("<i8").tobytes()
        return sha256(place + self.numbers.tobytes() + self.positions.tobytes()).hexdigest()

    @property
    def levels(self) -> np.ndarray:
        """The place of each molecule's start level among the levels, (n_molecules,) int.

        A level that lacks molecules must come after those that have them.
        """
        order = np.argsort(self.index, kind="stable")
        _, first, inverse = np.unique(self.index[order], return_index=True, return_inverse=True)
        levels = np.empty(len(self), dtype=np.int64)
        levels[order] = np.arange(len(self)) - first[inverse]
        return levels

    @property
    def sizes(self) -> np.ndarray:
        """Number of atoms of each molecule, (n_molecules,)."""
        return np.diff(self.offsets)

    def atoms(self, molecule: int) -> slice:
        """Return the rows of the flat arrays that belong to one molecule."""
        return slice(int(self.offsets[molecule]), int(self.offsets[molecule + 1]))

    def same_basin(self, max_rmsd: float, max_torsion: float) -> np.ndarray:
        """Tell which starts lie in the basin of their minimum.

        Parameters
        ----------
        max_rmsd : float, Å
        max_torsion : float, degrees

        Returns
        -------
        (n_molecules,) bool array
        """
        return (self.start_rmsd <= max_rmsd) & (self.start_torsion <= max_torsion)

    def select(self, molecules: np.ndarray) -> GeometrySet:
        """Return the set of the molecules at these places, in this order."""
        places = [np.arange(self.offsets[i], self.offsets[i + 1]) for i in molecules]
        rows = np.concatenate(places) if places else np.empty(0, dtype=np.int64)
        return GeometrySet(
            index=self.index[molecules],
            offsets=np.concatenate([[0], np.cumsum(self.sizes[molecules])]),
            numbers=self.numbers[rows],
            positions=self.positions[rows],
            starts=self.starts[rows],
            start_rmsd=self.start_rmsd[molecules],
            start_torsion=self.start_torsion[molecules],
            smiles=self.smiles[molecules],
        )

    @classmethod
    def join(cls, sets: Sequence[GeometrySet]) -> GeometrySet:
        """Return the molecules of several sets as one, those of the first set first."""
        joined = {f.name: np.concatenate([getattr(s, f.name) for s in sets]) for f in fields(cls)}
        sizes = np.concatenate([s.sizes for s in sets])
        return cls(**joined | {"offsets": np.concatenate([[0], np.cumsum(sizes)])})

    def save(self, path: Path) -> None:
        """Write the set to ``path`` (.npz); a file there is replaced in one step."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part, part.open("wb") as file:
            np.savez(file, **{f.name: getattr(self, f.name) for f in fields(self)})

    @classmethod
    def load(cls, path: Path) -> GeometrySet:
        """Read a set that :meth:`save` wrote.

        Raises
        ------
        ValueError
            If the file is damaged or not of this kind.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(**{f.name: arrays[f.name] for f in fields(cls)})
        except (BadZipFile, EOFError, KeyError, ValueError) as error:
            raise ValueError(f"{path} is damaged, delete it: {error}") from error


@dataclass(frozen=True, eq=False)
class Batch:
    """Molecules padded to the largest of them.

    Attributes
    ----------
    numbers : (n_molecules, n_atoms) int64 tensor
        Atomic numbers, 0 where there is no atom.
    positions : (n_molecules, n_atoms, 3) float32 tensor, Å
        Reference minimum, zero where there is no atom.
    starts : (n_molecules, n_atoms, 3) float32 tensor, Å
        Start, or ``positions`` where ``has_start`` is false.
    has_start : (n_molecules,) bool tensor
        Whether the start lies in the basin of the minimum.
    """

    numbers: Tensor
    positions: Tensor
    starts: Tensor
    has_start: Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return Batch(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


def collate(geometries: GeometrySet, molecules: np.ndarray, has_start: np.ndarray) -> Batch:
    """Pad the molecules at these places into one batch.

    Parameters
    ----------
    geometries : GeometrySet
    molecules : (n_molecules,) int array
        Places in ``geometries``.
    has_start : (len(geometries),) bool array
        Which molecules of the whole set have a usable start.
    """
    sizes = geometries.sizes[molecules]
    real = np.arange(sizes.max())[None, :] < sizes[:, None]
    rows = np.concatenate([np.arange(geometries.offsets[i], geometries.offsets[i + 1])
                           for i in molecules])  # fmt: skip
    usable = has_start[molecules]
    numbers = np.zeros(real.shape, dtype=np.int64)
    positions = np.zeros((*real.shape, 3), dtype=np.float32)
    starts = np.zeros_like(positions)
    numbers[real] = geometries.numbers[rows]
    positions[real] = geometries.positions[rows]
    starts[real] = geometries.starts[rows]
    starts[~usable] = positions[~usable]
    return Batch(*map(torch.from_numpy, (numbers, positions, starts, usable)))


def epoch_batches(
    sizes: np.ndarray, batch_size: int, seed: int, epoch: int
) -> Iterator[np.ndarray]:
    """Yield the batches of one epoch: molecules of like size together, in random order.

    The order depends on ``seed`` and ``epoch`` alone, so a run that resumes finds its place by
    counting. The last, incomplete batch of the epoch is left out.

    Parameters
    ----------
    sizes : (n_molecules,) int array
        Number of atoms of each molecule.

    Yields
    ------
    (batch_size,) int array
        Places of the batch's molecules.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(sizes))
    order = order[: len(order) // batch_size * batch_size]
    pool = 64 * batch_size
    pools = [order[i : i + pool] for i in range(0, len(order), pool)]
    ordered = [p[np.argsort(sizes[p], kind="stable")] for p in pools]
    batches = np.concatenate(ordered).reshape(-1, batch_size)
    yield from rng.permutation(batches)
