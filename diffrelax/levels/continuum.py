"""Continuum solvation by PySCF that makes once what is the same in all cycles of an SCF.

PySCF evaluates the integrals of the cavity's charges with pairs of basis functions twice in each
cycle, and solves the equations of the charges from scratch. In a molecule of eight atoms that is
four fifths of the SCF.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import lu_factor, lu_solve

from diffrelax.levels.blas import kernels_for_avx2

with kernels_for_avx2():
    from pyscf import df, gto, lib
    from pyscf.solvent.pcm import PCM
    from pyscf.solvent.smd import SMD

SHARE = 0.5  # of the memory that PySCF may take


class _Keeping:
    """Takes the place of what PySCF's `PCM` repeats; see there for the names.

    What is kept goes with the intermediates of a geometry.
    """

    def _get_v(self: Any, dms: np.ndarray) -> np.ndarray:
        integrals = self._integrals()
        if integrals is None:
            return super()._get_v(dms)  # type: ignore[misc]
        both = lib.pack_tril(dms + dms.transpose(0, 2, 1))
        n = dms.shape[-1]
        both[:, np.arange(n) * (np.arange(n) + 3) // 2] /= 2  # the diagonal
        return both @ integrals

    def _get_vmat(self: Any, q: np.ndarray) -> np.ndarray:
        integrals = self._integrals()
        if integrals is None:
            return super()._get_vmat(q)  # type: ignore[misc]
        return -lib.unpack_tril(q.reshape(-1, integrals.shape[1]) @ integrals.T)

    def _get_vind(self: Any, dms: np.ndarray) -> tuple[float, np.ndarray]:
        n = dms.shape[-1]
        dms = dms.reshape(-1, n, n).sum(0)[None]
        if not self._intermediates:
            self.build()
        potential = self.v_grids_n - self._get_v(dms)
        charges, symmetric = self._respond(potential)
        self._intermediates |= {
            "q": charges[0],
            "q_sym": symmetric[0],
            "v_grids": potential[0],
            "dm": dms,
        }
        return 0.5 * symmetric[0] @ potential[0], self._get_vmat(symmetric)[0]

    def _B_dot_x(self: Any, dms: np.ndarray) -> np.ndarray:  # noqa: N802
        n = dms.shape[-1]
        if not self._intermediates:
            self.build()
        _, symmetric = self._respond(-self._get_v(dms.reshape(-1, n, n)))
        return self._get_vmat(symmetric).reshape(dms.shape)

    def _respond(self: Any, potential: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the charges that a potential induces, and the symmetric ones of the energy."""
        known = self._intermediates
        if "factors" not in known:
            known["factors"] = lu_factor(known["K"])
        charges = lu_solve(known["factors"], known["R"] @ potential.T).T
        adjoint = (known["R"].T @ lu_solve(known["factors"], potential.T, trans=1)).T
        return charges, (charges + adjoint) / 2

    def _integrals(self: Any) -> np.ndarray | None:
        """Return the potentials of pairs of basis functions at the charges, None if too large."""
        if "integrals" not in self._intermediates:
            self._intermediates["integrals"] = self._make_integrals()
        return self._intermediates["integrals"]

    def _make_integrals(self: Any) -> np.ndarray | None:
        mol, surface = self.mol, self.surface
        pairs = mol.nao * (mol.nao + 1) // 2
        room = SHARE * (self.max_memory - lib.current_memory()[0])
        if pairs * len(surface["grid_coords"]) * 8e-6 > room:
            return None
        charges = gto.fakemol_for_charges(surface["grid_coords"], surface["charge_exp"] ** 2)
        charges.cart = mol.cart
        name = mol._add_suffix("int3c2e")
        return df.incore.aux_e2(mol, charges, intor=name, aosym="s2ij")


class KeepingPCM(_Keeping, PCM):
    """PySCF's polarizable continuum."""


class KeepingSMD(_Keeping, SMD):
    """PySCF's SMD."""
