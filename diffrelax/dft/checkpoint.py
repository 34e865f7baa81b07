"""Checkpoints of DFT relaxations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from diffrelax.clock import Time
from diffrelax.dft.recorder import Call, SecondDerivatives
from diffrelax.molecule import Molecule
from diffrelax.store import Store, Unit

if TYPE_CHECKING:
    from diffrelax.levels.density_functional import SCFState

SAME_START = 1e-5  # Å


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The calculations of a relaxation so far.

    The state of the optimizer is not stored: the optimizer is deterministic, and replaying the
    recorded calls restores it exactly.

    Parameters
    ----------
    key : str
        Key of the start and the settings, see `diffrelax.store.work_key`.
    hessian : (3 n_atoms, 3 n_atoms) array, eV/Å², or None
        Start Hessian of the optimizer.
    hessian_time : Time
    notes : tuple of str
    calls : tuple of Call
    checks : tuple of Call
        Calls for checks of the minimum.
    hessians : tuple of SecondDerivatives
        Hessians for checks of the minimum.
    scf : SCFState or None
        State after the last call; None if the level has no SCF.
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
        """Return a copy without the orbitals, which are large and only needed to continue."""
        if self.scf is None:
            return self
        none = np.empty(0)
        return replace(self, scf=self.scf._replace(orbitals=none, occupations=none))

    def keep(self, store: Store, kind: str) -> None:
        """Store the checkpoint, replacing an earlier one."""
        document = {
            "hessian": self.hessian,
            "hessian_time": astuple(self.hessian_time),
            "notes": self.notes,
            "calls": _documents(self.calls),
            "checks": _documents(self.checks),
            "hessians": [[*one[:2], astuple(one.time)] for one in self.hessians],
            "scf": self.scf and self.scf._asdict(),
        }
        store.keep(self.key, document, kind)

    @classmethod
    def find(cls, store: Store, kind: str, molecule: Molecule) -> Checkpoint | None:
        """Find the relaxation that began at the geometry of a molecule, within rounding.

        The last digits of a network's output differ between processors.

        Parameters
        ----------
        store : Store
        kind : str
            Common to the relaxations of all geometries of the molecule with the same settings.
        molecule : Molecule
            At the start geometry.
        """
        for key, document in store.each(kind):
            begun = np.array([call["positions"] for call in document["calls"][:1]])
            if np.allclose(begun, molecule.positions, rtol=0, atol=SAME_START):
                return cls._read(key, document, molecule)
        return None

    @classmethod
    def _read(cls, key: str, document: Unit, molecule: Molecule) -> Self:
        hessian, scf = document["hessian"], document["scf"]
        if scf:
            from diffrelax.levels.density_functional import SCFState  # takes PySCF

            arrays = {name: np.array(scf[name]) for name in ("orbitals", "occupations")}
            scf = SCFState(**scf | arrays)
        return cls(
            key,
            None if hessian is None else np.array(hessian),
            Time(*document["hessian_time"]),
            tuple(document["notes"]),
            _calls(document["calls"], molecule),
            _calls(document["checks"], molecule),
            tuple(
                SecondDerivatives(np.array(positions), np.array(known), Time(*time))
                for positions, known, time in document["hessians"]
            ),
            scf,
        )


def _documents(calls: Sequence[Call]) -> list[Unit]:
    return [
        {
            "positions": call.molecule.positions,
            "energy": call.energy,
            "forces": call.forces,
            "time": astuple(call.time),
            "scf_cycles": call.scf_cycles,
        }
        for call in calls
    ]


def _calls(documents: Sequence[Mapping[str, Any]], molecule: Molecule) -> tuple[Call, ...]:
    return tuple(
        Call(
            molecule.with_positions(np.array(one["positions"]), start="dft"),
            one["energy"],
            np.array(one["forces"]),
            Time(*one["time"]),
            one["scf_cycles"],
        )
        for one in documents
    )
