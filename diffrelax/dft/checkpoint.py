"""The file from which a killed DFT relaxation goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from diffrelax.atomic import DAMAGED, replacing
from diffrelax.clock import Time
from diffrelax.dft.recorder import Call, SecondDerivatives
from diffrelax.errors import InputError
from diffrelax.levels.density_functional import SCFState
from diffrelax.molecule import Molecule

SAME_START = 1e-5  # Å


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
    checks : tuple of Call
        Of checks of the minimum.
    hessians : tuple of SecondDerivatives
        Of these too.
    scf : SCFState or None
        After the last call; None if the level carries nothing over.
    """

    key: str
    hessian: np.ndarray | None
    hessian_time: Time
    notes: tuple[str, ...]
    calls: tuple[Call, ...] = ()
    checks: tuple[Call, ...] = ()
    hessians: tuple[SecondDerivatives, ...] = ()
    scf: SCFState | None = None

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
            **_packed("", self.calls),
            **_packed("check_", self.checks),
            "hessian_positions": [known.positions for known in self.hessians],
            "hessians": [known.hessian for known in self.hessians],
            "hessian_times": [astuple(known.time) for known in self.hessians],
            "hessian": np.empty(0) if self.hessian is None else self.hessian,
            "hessian_time": astuple(self.hessian_time),
            "notes": np.array(self.notes, dtype=np.str_),
            **(self.scf._asdict() if self.scf else {}),
        }
        with replacing(path) as part, part.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path, key_of: Callable[[Molecule], str], molecule: Molecule) -> Checkpoint:
        """Read the checkpoint of a relaxation of a molecule.

        It may have begun at a geometry that differs in the last digits, as those of a network do on
        another processor.

        Parameters
        ----------
        path : path
        key_of : callable
            Returns the key of a start.
        molecule : Molecule
            The start.

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
            if arrays["key"].item() in map(key_of, _starts(arrays, molecule)):
                return cls._from_arrays(arrays, molecule)
        except DAMAGED as error:
            raise InputError(f"{path} is not a whole checkpoint: delete it") from error
        raise InputError(
            f"the checkpoint {path} belongs to another molecule or to other settings: delete it, "
            "or name another file"
        )

    @classmethod
    def _from_arrays(cls, arrays: dict[str, np.ndarray], molecule: Molecule) -> Checkpoint:
        hessians = zip(
            arrays["hessian_positions"],
            arrays["hessians"],
            (Time(*time) for time in arrays["hessian_times"].tolist()),
            strict=True,
        )
        return cls(
            key=arrays["key"].item(),
            calls=_calls("", arrays, molecule),
            checks=_calls("check_", arrays, molecule),
            hessians=tuple(SecondDerivatives(*known) for known in hessians),
            hessian=arrays["hessian"] if arrays["hessian"].size else None,
            hessian_time=Time(*arrays["hessian_time"].tolist()),
            notes=tuple(arrays["notes"].tolist()),
            scf=_scf(arrays) if "orbitals" in arrays else None,
        )


def _starts(arrays: dict[str, np.ndarray], molecule: Molecule) -> Iterator[Molecule]:
    yield molecule
    for begun in arrays["positions"][:1]:
        if begun.shape == molecule.positions.shape and np.allclose(
            begun, molecule.positions, rtol=0, atol=SAME_START
        ):
            yield molecule.with_positions(begun)


def _packed(prefix: str, calls: tuple[Call, ...]) -> dict[str, Any]:
    return {
        f"{prefix}positions": [call.molecule.positions for call in calls],
        f"{prefix}energies": [call.energy for call in calls],
        f"{prefix}forces": [call.forces for call in calls],
        f"{prefix}call_times": [astuple(call.time) for call in calls],
        f"{prefix}call_cycles": np.array([call.scf_cycles for call in calls], dtype=int),
    }


def _calls(prefix: str, arrays: dict[str, np.ndarray], molecule: Molecule) -> tuple[Call, ...]:
    calls = zip(
        (molecule.with_positions(xyz, start="dft") for xyz in arrays[f"{prefix}positions"]),
        arrays[f"{prefix}energies"].tolist(),
        arrays[f"{prefix}forces"],
        (Time(*time) for time in arrays[f"{prefix}call_times"].tolist()),
        arrays[f"{prefix}call_cycles"].tolist(),
        strict=True,
    )
    return tuple(Call(*call) for call in calls)


def _scf(arrays: dict[str, np.ndarray]) -> SCFState:
    return SCFState(
        arrays["orbitals"],
        arrays["occupations"],
        arrays["second_order"].item(),
        arrays["contamination"].item() if "contamination" in arrays else 0.0,
    )
