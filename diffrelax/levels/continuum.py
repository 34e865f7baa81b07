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
    from pyscf.solvent.hessian.smd import get_cds as second_derivatives
    from pyscf.solvent.pcm import PCM
    from pyscf.solvent.smd import SMD
    from pyscf.solvent.smd import get_cds_legacy as energy_and_gradient

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
    """PySCF's SMD, whose terms of cavity, dispersion and structure know each atom by its element.

    PySCF tells them the charge that a core potential leaves of the nucleus: chlorine would be
    nitrogen with LANL2DZ.
    """

    e_cds: float | None

    def get_cds(self) -> float:
        """Return the energy of these terms, Hartree."""
        if self.e_cds is None:
            self.e_cds = float(energy_and_gradient(self._with_cores())[0])
        return self.e_cds

    def grad(self, dm: np.ndarray, verbose: int | None = None) -> np.ndarray:
        """Return the gradient of the solvation energy, (n_atoms, 3), Hartree/Bohr."""
        gradient = super().grad(dm, verbose)
        if self.mol.has_ecp():
            gradient += energy_and_gradient(self._with_cores())[1] - energy_and_gradient(self)[1]
        return gradient

    def hess(self, dm: np.ndarray) -> np.ndarray:
        """Return the second derivatives, (n_atoms, n_atoms, 3, 3), Hartree/Bohr²."""
        hessian = super().hess(dm)
        if self.mol.has_ecp():
            hessian += second_derivatives(self._with_cores()) - second_derivatives(self)
        return hessian

    def _with_cores(self) -> KeepingSMD:
        """Return the same for atoms without core potentials."""
        if not self.mol.has_ecp():
            return self
        full = self.copy()
        full.mol = self.mol.copy()
        full.mol._atm[:, gto.CHARGE_OF] = [gto.charge(symbol) for symbol in self.mol.elements]
        return full
