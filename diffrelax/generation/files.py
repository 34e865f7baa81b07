"""Files of trajectories."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py

from diffrelax.atomic import DAMAGED, replacing
from diffrelax.errors import InputError
from diffrelax.generation.trajectory import Trajectory
from diffrelax.generation.verdict import Generated


def write_trajectories(
    path: Path, made: Mapping[int, Generated], settings: Mapping[str, Any]
) -> None:
    """Write trajectories to an HDF5 file atomically.

    The attribute ``settings`` of the file is JSON.

    Group ``i`` has the i-th trajectory, of the molecule ``generated-i`` of the command line:
    ``levels`` (n_levels,) in Å, ``numbers`` (n_levels, n_atoms), ``positions`` and ``estimates``
    (n_levels, n_atoms, 3) in Å; see :class:`Trajectory`. Its attribute ``smiles`` is empty if it is
    not a molecule.
    """
    written = BytesIO()  # HDF5 itself does not survive a full disk
    with h5py.File(written, "w") as file:
        file.attrs["settings"] = json.dumps(dict(settings))
        for i, one in made.items():
            if one.trajectory is None:
                continue
            group = file.create_group(str(i))
            group.attrs["smiles"] = one.atoms.info["smiles"]
            for field in fields(Trajectory):
                values = getattr(one.trajectory, field.name)
                group.create_dataset(field.name, data=values, compression="gzip")
    with replacing(path) as part:
        part.write_bytes(written.getvalue())


def count_trajectories(path: Path, settings: Mapping[str, Any]) -> int:
    """Return how many trajectories made with these settings a file holds."""
    try:
        with h5py.File(path) as file:
            same = json.loads(file.attrs.get("settings", "{}")) == settings
            return len(file) if same else 0
    except (OSError, ValueError):
        return 0


def read_trajectories(path: Path) -> dict[int, Trajectory]:
    """Read trajectories from a file of :func:`write_trajectories`.

    Raises
    ------
    ValueError
        If the file is missing, damaged, or of another kind.
    """
    names = [field.name for field in fields(Trajectory)]
    try:
        with h5py.File(path) as file:
            return {
                int(i): Trajectory(*(group[name][()] for name in names))
                for i, group in sorted(file.items(), key=lambda item: int(item[0]))
            }
    except (OSError, *DAMAGED) as error:
        raise InputError(
            f"{path} is missing, damaged, or holds no trajectories: {error}"
        ) from error
