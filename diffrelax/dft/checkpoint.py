"""The file from which a killed DFT relaxation goes on."""

from __future__ import annotations

import zipfile
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np

from diffrelax.atomic import replacing
from diffrelax.clock import NO_TIME, Time
from diffrelax.dft.recorder import Call
from diffrelax.levels.density_functional import SCFState
from diffrelax.molecule import Molecule


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a relaxation has calculated so far.

    The optimizer itself is not in it: it is deterministic, so a relaxation that is answered from
    the recorded calls rebuilds the state of its optimizer to the last bit.

    Parameters
    ----------
    key : str
        Of the molecule and the settings (see `diffrelax.cache.work_key`).
    hessian : (3 n_atoms, 3 n_atoms) array, eV/Å², or None
        From which the optimizer started.
    hessian_time : Time
    notes : tuple of str
    calls : tuple of Call
    scf : SCFState or None
        After the last call; None if the level carries nothing over.
    time : Time
        So far.
    """

    key: str
    hessian: np.ndarray | None
    hessian_time: Time
    notes: tuple[str, ...]
    calls: tuple[Call, ...] = ()
    scf: SCFState | None = None
    time: Time = NO_TIME

    def without_orbitals(self) -> Checkpoint:
        """Leave out what only a relaxation in its middle needs, and what takes most of the room."""
        if self.scf is None:
            return self
        none = np.empty(0)
        return replace(self, scf=self.scf._replace(orbitals=none, occupations=none))

    def save(self, path: Path) -> None:
        """Write the checkpoint, whole or not at all; there must have been a call."""
        arrays = {
            "key": self.key,
            "positions": [call.molecule.positions for call in self.calls],
            "energies": [call.energy for call in self.calls],
            "forces": [call.forces for call in self.calls],
            "call_times": [astuple(call.time) for call in self.calls],
            "hessian": np.empty(0) if self.hessian is None else self.hessian,
            "hessian_time": astuple(self.hessian_time),
            "notes": np.array(self.notes, dtype=np.str_),
            "time": astuple(self.time),
            **(self.scf._asdict() if self.scf else {}),
        }
        with replacing(path) as part, part.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path, key: str, molecule: Molecule) -> Checkpoint:
        """Read the checkpoint of a relaxation of a molecule.

        Raises
        ------
        ValueError
            If it belongs to another molecule or to other settings, or is damaged.
        OSError
            If it cannot be read.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file)
            if arrays["key"].item() == key:
                return cls._from_arrays(arrays, molecule)
        except (LookupError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} is not a whole checkpoint: delete it") from error
        raise ValueError(
            f"the checkpoint {path} belongs to another molecule or to other settings: delete it, "
            "or name another file"
        )

    @classmethod
    def _from_arrays(cls, arrays: dict[str, np.ndarray], molecule: Molecule) -> Checkpoint:
        calls = zip(
            (molecule.with_positions(xyz, start="dft") for xyz in arrays["positions"]),
            arrays["energies"].tolist(),
            arrays["forces"],
            (Time(*time) for time in arrays["call_times"].tolist()),
            strict=True,
        )
        return cls(
            key=arrays["key"].item(),
            calls=tuple(Call(*call) for call in calls),
            hessian=arrays["hessian"] if arrays["hessian"].size else None,
            hessian_time=Time(*arrays["hessian_time"].tolist()),
            notes=tuple(arrays["notes"].tolist()),
            scf=_scf(arrays) if "cycles" in arrays else None,
            time=Time(*arrays["time"].tolist()),
        )


def _scf(arrays: dict[str, np.ndarray]) -> SCFState:
    return SCFState(
        arrays["orbitals"],
        arrays["occupations"],
        arrays["cycles"].item(),
        arrays["second_order"].item(),
    )
