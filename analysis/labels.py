"""Minima that were made here, as they are published: parts of some thousands in one file each.

A part is an .npz of plain arrays. Its text ``about`` says in JSON what it holds and how it was
made; then, one for each minimum, ``n_atoms``, ``charge``, ``remainder`` (of the hash of its
constitution, on which the split is defined), ``seed``, ``energy`` (eV) and ``fmax`` (eV/Å), and the
lines of ``smiles``, in UTF-8; and for each atom ``numbers`` and ``positions``: three planes of
bytes, the first the highest, of the coordinates in `STEP` from the centre of the molecule, plus
2²³. Atoms are in the order of the SMILES, its hydrogens last. Starts are not kept: the SMILES,
embedded with the seed, gives them again.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffrelax.atomic import DAMAGED, replacing
from diffrelax.data.minima import Minimum, split_of_constitution
from diffrelax.errors import InputError

STEP = 1e-4  # Å; labels are converged to some 1e-4 Å in bonds
OFFSET = 1 << 23


@dataclass(frozen=True, eq=False)
class Part:
    """Some of the minima of a release.

    Attributes
    ----------
    about : dict
        What they are and how they were made; ``level`` is their level of theory.
    minima : list of Minimum
        Without starts.
    energies : (n_minima,) array, eV
    fmax : (n_minima,) array, eV/Å
        Largest force on an atom.
    """

    about: dict[str, Any]
    minima: Sequence[Minimum]
    energies: np.ndarray
    fmax: np.ndarray

    def save(self, path: Path) -> None:
        """Write the part; a file there is replaced in one step.

        Raises
        ------
        ValueError
            If a molecule is sealed, or reaches further than 800 Å.
        """
        for minimum in self.minima:
            split_of_constitution(minimum.remainder, minimum.name)
        centred = [m.positions - m.positions.mean(axis=0) for m in self.minima]
        steps = np.rint(np.concatenate(centred) / STEP).astype(np.int64) + OFFSET
        if steps.min() < 0 or steps.max() >= 2 * OFFSET:
            raise InputError(f"{path}: a molecule is larger than coordinates can tell")
        smiles = "\n".join(m.smiles for m in self.minima).encode()
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part, part.open("wb") as file:
            np.savez_compressed(
                file,
                about=np.array(json.dumps(self.about, ensure_ascii=False)),
                smiles=np.frombuffer(smiles, dtype=np.uint8),
                n_atoms=np.array([len(m.numbers) for m in self.minima], dtype=np.uint16),
                charge=np.array([m.charge for m in self.minima], dtype=np.int8),
                remainder=np.array([m.remainder for m in self.minima], dtype=np.uint8),
                seed=np.array([m.seed for m in self.minima], dtype=np.uint32),
                energy=self.energies.astype(np.float64),
                fmax=self.fmax.astype(np.float16),
                numbers=np.concatenate([m.numbers for m in self.minima]).astype(np.uint8),
                positions=np.stack([(steps >> shift & 255).astype(np.uint8)
                                    for shift in (16, 8, 0)]),
            )  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> Part:
        """Read a part.

        Raises
        ------
        ValueError
            If the file is damaged or not of this kind, or a molecule is sealed.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                found = {name: file[name] for name in file.files}
            about = json.loads(str(found["about"]))
            smiles = found["smiles"].tobytes().decode().split("\n")
            high, middle, low = found["positions"].astype(np.int64)
            positions = STEP * ((high << 16 | middle << 8 | low) - OFFSET)
            ends = np.cumsum(found["n_atoms"], dtype=np.int64)
            if len(smiles) != len(ends) or len(positions) != ends[-1]:
                raise InputError("its arrays do not fit one another")
            columns = (found[name].tolist() for name in ("charge", "remainder", "seed"))
            atoms = zip(
                np.split(found["numbers"], ends[:-1]), np.split(positions, ends[:-1]), strict=True
            )
        except (zlib.error, *DAMAGED) as error:
            raise InputError(f"{path} is damaged, or not part of a release: {error}") from error
        minima = []
        rows = zip(smiles, *columns, atoms, strict=True)
        for i, (text, charge, remainder, seed, (numbers, where)) in enumerate(rows):
            name = f"{path.stem}-{i}"
            split_of_constitution(remainder, name)
            minima.append(
                Minimum(
                    place=i,
                    name=name,
                    smiles=text,
                    remainder=remainder,
                    charge=charge,
                    numbers=numbers,
                    positions=where,
                    seed=seed,
                )
            )
        return cls(about, minima, found["energy"], found["fmax"].astype(np.float64))
