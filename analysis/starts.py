"""Starts of published minima at a cheap level of theory, as they are kept: parts of some thousands.

A part is an .npz of plain arrays. Its text ``about`` says in JSON what it holds: the ``source`` of
the minima, the ``level`` of the starts, and how they were made. Then, one for each start, ``index``
(of the minimum in its source) and ``n_atoms``; and for each atom ``steps``: the displacement from
the minimum, both centred and superposed, in units of `STEP`, as int16. Starts that did not converge
or lie further away than that can tell are not there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from diffrelax.atomic import DAMAGED, replacing
from diffrelax.errors import InputError
from diffrelax.geometry import bond_matrix, torsion_changes
from diffrelax.training.geometries import GeometrySet

STEP = 2e-4  # Å


def save_starts(
    path: Path, about: Mapping[str, Any], displacements: Mapping[int, np.ndarray]
) -> None:
    """Write a part; a file there is replaced in one step.

    Parameters
    ----------
    path : path
    about : mapping
        Plain values, ``source`` and ``level`` among them.
    displacements : mapping of int to (n_atoms, 3) array, Å
        From each minimum to its start, by the index of the minimum in its source.
    """
    steps = {i: np.rint(d / STEP) for i, d in displacements.items()}
    near = {i: s for i, s in steps.items() if np.abs(s).max() < 2**15}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part, part.open("wb") as file:
        np.savez_compressed(
            file,
            about=np.array(json.dumps(dict(about), ensure_ascii=False)),
            index=np.array(list(near), dtype=np.int32),
            n_atoms=np.array([len(s) for s in near.values()], dtype=np.uint16),
            # planes of high and low bytes pack better
            steps=np.concatenate(list(near.values())).astype("<i2").view(np.uint8)
            .reshape(-1, 3, 2).transpose(2, 1, 0).copy(),
        )  # fmt: skip


def load_starts(folder: Path, source: str) -> Iterator[tuple[str, int, np.ndarray]]:
    """Read all parts that a folder has of a source.

    Yields
    ------
    level : str
        Of the start.
    index : int
        Of the minimum in its source.
    displacement : (n_atoms, 3) array, Å
        From the centred minimum to its start.

    Raises
    ------
    ValueError
        If a file is damaged or not of this kind.
    """
    for path in sorted(folder.glob("*.npz")):
        try:
            with np.load(path, allow_pickle=False) as file:
                about = json.loads(str(file["about"]))
                if about["source"] != source:
                    continue
                index, sizes, planes = (file[name] for name in ("index", "n_atoms", "steps"))
            steps = np.ascontiguousarray(planes.transpose(2, 1, 0)).view("<i2")[..., 0]
            parts = np.split(STEP * steps, np.cumsum(sizes, dtype=np.int64)[:-1])
            yield from ((about["level"], int(i), d) for i, d in zip(index, parts, strict=True))
        except DAMAGED as error:
            raise InputError(f"{path} is damaged, or not a file of starts: {error}") from error


def started(geometries: GeometrySet, folder: Path, source: str) -> list[GeometrySet]:
    """Return the minima of a source that a folder has starts of, once for each level of starts.

    Parameters
    ----------
    geometries : GeometrySet
        Of the source, numbered as there, each minimum once.
    folder, source
        See `load_starts`.
    """
    places = {int(index): place for place, index in enumerate(geometries.index)}
    found: dict[str, dict[int, np.ndarray]] = {}
    for level, index, displacement in load_starts(folder, source):
        if (place := places.get(index)) is not None:
            found.setdefault(level, {})[place] = displacement
    sets = []
    for level, displacements in found.items():
        chosen = np.array(sorted(displacements))
        one = geometries.select(chosen)
        starts = one.positions + np.concatenate([displacements[i] for i in chosen])
        torsions = np.zeros(len(one), dtype=np.float32)
        for i in range(len(one)):
            atoms = one.atoms(i)
            numbers, minimum = one.numbers[atoms], one.positions[atoms].astype(np.float64)
            changes = torsion_changes(bond_matrix(numbers, minimum), starts[atoms], minimum)
            torsions[i] = changes.max(initial=0.0)
        squares = ((starts - one.positions) ** 2).sum(1)
        rmsd = np.sqrt(np.add.reduceat(squares, one.offsets[:-1]) / one.sizes)
        sets.append(
            replace(
                one,
                starts=starts.astype(np.float32),
                start_rmsd=rmsd.astype(np.float32),
                start_torsion=torsions,
                start_levels=(level,),
            )
        )
    return sets
