"""Packed sets of equilibrium geometries, and batches for training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffrelax.atomic import DAMAGED, replacing
from diffrelax.errors import InputError
from diffrelax.network.network import Context


@dataclass(frozen=True, eq=False)
class GeometrySet:
    """Molecules in flat arrays, each with a minimum and a start near it.

    Attributes
    ----------
    index : (n_molecules,) int array
        Number of the molecule in its source, which defines the split. It is repeated for each
        level of theory of the starts.
    offsets : (n_molecules + 1,) int array
        Molecule ``i`` has the atoms ``offsets[i]:offsets[i + 1]``.
    numbers : (n_atoms_total,) uint8 array
        Atomic numbers.
    positions : (n_atoms_total, 3) float32 array, Å
        Reference minimum, centred at the mean position of its atoms.
    starts : (n_atoms_total, 3) float32 array, Å
        Geometry relaxed from ``positions`` at a cheap level of theory, and superposed on them.
        Undefined where ``start_rmsd`` is NaN.
    start_rmsd : (n_molecules,) float32 array, Å
        Aligned root mean square deviation of ``starts``; NaN if the cheap level has no parameters
        or did not converge.
    start_torsion : (n_molecules,) float32 array, degrees
        Largest change of a torsion from ``positions`` to ``starts``.
    smiles : (n_molecules,) bytes array
        Isomeric SMILES with the stereochemistry of ``positions``.
    level : (n_molecules,) int array
        Index in ``levels`` of the level of theory of ``positions``. Default: 0.
    charge : (n_molecules,) int array
        Total charge. Default: 0.
    start_level : (n_molecules,) int array
        Index in ``start_levels`` of the level of theory of ``starts``. Default: 0.
    levels : tuple of str
        Names of the levels of theory; may be empty if there is only one.
    start_levels : tuple of str
        Names of the levels of theory of starts.
    """

    index: np.ndarray
    offsets: np.ndarray
    numbers: np.ndarray
    positions: np.ndarray
    starts: np.ndarray
    start_rmsd: np.ndarray
    start_torsion: np.ndarray
    smiles: np.ndarray
    level: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int16))
    charge: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int8))
    start_level: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int8))
    levels: tuple[str, ...] = ()
    start_levels: tuple[str, ...] = ("mmff94",)

    def __post_init__(self) -> None:
        for name in ("level", "charge", "start_level"):
            if not len(array := getattr(self, name)):
                object.__setattr__(self, name, np.zeros(len(self.index), dtype=array.dtype))

    def __len__(self) -> int:
        return len(self.index)

    @property
    def fingerprint(self) -> str:
        """SHA-256 hash of the minima in their order; starts are not included."""
        place = np.stack([self.index, self.sizes]).astype("<i8").tobytes()
        context = b"".join(
            array.astype("<i8").tobytes() for array in (self.level, self.charge) if array.any()
        )
        flat = self.numbers.tobytes() + self.positions.tobytes()
        return sha256(place + flat + context).hexdigest()

    @property
    def sizes(self) -> np.ndarray:
        """Number of atoms of each molecule, (n_molecules,)."""
        return np.diff(self.offsets)

    @property
    def heavy_sizes(self) -> np.ndarray:
        """Number of heavy atoms of each molecule, (n_molecules,)."""
        return np.add.reduceat(self.numbers > 1, self.offsets[:-1], dtype=int)

    def atoms(self, molecule: int) -> slice:
        """Return the rows of the flat arrays that belong to one molecule."""
        return slice(int(self.offsets[molecule]), int(self.offsets[molecule + 1]))

    def select(self, molecules: np.ndarray) -> GeometrySet:
        """Return the set of molecules with these indices, in this order."""
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
            level=self.level[molecules],
            charge=self.charge[molecules],
            start_level=self.start_level[molecules],
            levels=self.levels,
            start_levels=self.start_levels,
        )

    def known_as(self, levels: Sequence[str]) -> GeometrySet:
        """Return the same molecules with the level indices of a network.

        Parameters
        ----------
        levels : sequence of str
            Levels of theory that the network distinguishes; empty if it has only one.

        Raises
        ------
        ValueError
            If the network lacks one of the levels.
        """
        if len(self.levels) < 2 and not levels:
            return self
        names = self.levels or ("one without a name",)
        if lacking := [name for name in names if name not in levels]:
            raise InputError(
                f"the data have the levels of theory {', '.join(lacking)}, which the network "
                "lacks: add them to network.levels"
            )
        places = np.array([levels.index(name) for name in self.levels], dtype=np.int16)
        return replace(self, level=places[self.level], levels=tuple(levels))

    def starting_at(self, start_levels: Sequence[str]) -> GeometrySet:
        """Return the same molecules with the start-level indices of a network.

        Levels that the network does not distinguish are appended.
        """
        names = tuple(dict.fromkeys([*start_levels, *self.start_levels]))
        places = np.array([names.index(name) for name in self.start_levels], dtype=np.int8)
        return replace(self, start_level=places[self.start_level], start_levels=names)

    @classmethod
    def join(cls, sets: Sequence[GeometrySet]) -> GeometrySet:
        """Concatenate several sets."""
        levels = tuple(dict.fromkeys(name for s in sets for name in s.levels))
        starts = tuple(dict.fromkeys(name for s in sets for name in s.start_levels))
        sets = [one.known_as(levels).starting_at(starts) for one in sets]
        joined = {name: np.concatenate([getattr(s, name) for s in sets]) for name in ARRAYS}
        sizes = np.concatenate([s.sizes for s in sets])
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        return cls(**joined | {"offsets": offsets}, levels=levels, start_levels=starts)

    def check(self) -> None:
        """Raise ValueError if the arrays are inconsistent or have impossible values."""
        n_atoms = int(self.offsets[-1])
        for name in ARRAYS:
            length = n_atoms if name in ATOM_ARRAYS else len(self) + (name == "offsets")
            if len(getattr(self, name)) != length:
                raise InputError(f"{name} has {len(getattr(self, name))} entries, not {length}")
        if self.offsets[0] != 0 or (self.sizes < 1).any():
            raise InputError("offsets do not rise from 0")
        if not np.isin(self.level, np.arange(max(1, len(self.levels)))).all():
            raise InputError("a molecule has a level of theory without a name")
        if not np.isfinite(self.positions).all():
            raise InputError("positions are not finite")

    def save(self, path: Path) -> None:
        """Write the set to ``path`` (.npz); an existing file is replaced atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part, part.open("wb") as file:
            np.savez(file, **{f.name: getattr(self, f.name) for f in fields(self)})

    @classmethod
    def load(cls, path: Path) -> GeometrySet:
        """Read a set that :meth:`save` wrote.

        Raises
        ------
        ValueError
            If the file is damaged or not a packed set.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                found = {name: arrays[name] for name in ARRAYS if name in arrays}
                names: dict[str, Any] = {
                    name: tuple(arrays[name].tolist())
                    for name in ("levels", "start_levels")
                    if name in arrays
                }
                loaded = cls(**found, **names)
            loaded.check()
            return loaded
        except DAMAGED as error:
            raise InputError(f"{path} is damaged, or not a packed set: {error}") from error


ARRAYS = tuple(f.name for f in fields(GeometrySet) if f.name not in ("levels", "start_levels"))
ATOM_ARRAYS = ("numbers", "positions", "starts")


@dataclass(frozen=True, eq=False)
class Batch:
    """Molecules padded to the size of the largest one.

    Attributes
    ----------
    numbers : (n_molecules, n_atoms) int64 tensor
        Atomic numbers, 0 where there is no atom.
    positions : (n_molecules, n_atoms, 3) float32 tensor, Å
        Reference minima, zero where there is no atom.
    starts : (n_molecules, n_atoms, 3) float32 tensor, Å
        Starts, or ``positions`` where ``has_start`` is false.
    has_start : (n_molecules,) bool tensor
        Whether the start lies in the basin of the minimum.
    context : Context
    """

    numbers: Tensor
    positions: Tensor
    starts: Tensor
    has_start: Tensor
    context: Context

    def __getitem__(self, part: slice) -> Batch:
        """Return a slice of the molecules."""
        return self._map(lambda tensor: tensor[part])

    def to(self, device: torch.device) -> Batch:
        """Move the batch to a device."""
        return self._map(lambda tensor: tensor.to(device))

    def unpadded(self, ends: Tensor) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield the atomic numbers, end and minimum of each molecule without padding.

        Parameters
        ----------
        ends : (n_molecules, n_atoms, 3) tensor, Å
            Relaxed geometries.
        """
        for numbers, *both in zip(
            self.numbers.cpu(), ends.cpu(), self.positions.cpu(), strict=True
        ):
            real = numbers > 0
            end, minimum = (positions[real].numpy() for positions in both)
            yield numbers[real].numpy(), end, minimum

    def _map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return Batch(
            numbers=change(self.numbers),
            positions=change(self.positions),
            starts=change(self.starts),
            has_start=change(self.has_start),
            context=Context(*map(change, self.context)),
        )


def like_batches(
    geometries: GeometrySet, molecules: np.ndarray, has_start: np.ndarray, size: int
) -> Iterator[Batch]:
    """Yield batches of molecules of similar size, the smallest first; see `collate`."""
    ordered = molecules[np.argsort(geometries.sizes[molecules], kind="stable")]
    for i in range(0, len(ordered), size):
        yield collate(geometries, ordered[i : i + size], has_start)


def collate(geometries: GeometrySet, molecules: np.ndarray, has_start: np.ndarray) -> Batch:
    """Pad the molecules with these indices into one batch.

    Parameters
    ----------
    geometries : GeometrySet
    molecules : (n_molecules,) int array
        Indices in ``geometries``.
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
    about = (geometries.level, geometries.charge, geometries.start_level)
    context = (array[molecules] for array in about)
    return Batch(
        numbers=torch.from_numpy(numbers),
        positions=torch.from_numpy(positions),
        starts=torch.from_numpy(starts),
        has_start=torch.from_numpy(usable),
        context=Context(*(torch.from_numpy(part.astype(np.int64)) for part in context)),
    )
