"""Continuum solvation by PySCF that evaluates once what is constant during an SCF.

PySCF evaluates the integrals of the cavity's charges with pairs of basis functions twice in each
cycle, and solves the equations of the charges from scratch. Here the integrals and the LU
factors of the equations are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy.linalg import lu_factor, lu_solve

from diffrelax.levels.pyscf_library import loading_pyscf

with loading_pyscf():
    from pyscf import df, gto, lib
    from pyscf.solvent.grad.pcm import grad_nuc
    from pyscf.solvent.grad.pcm import grad_solver as pcm_solver
    from pyscf.solvent.grad.smd import grad_solver as smd_solver
    from pyscf.solvent.pcm import PCM

    from diffrelax.levels.smd import SMDWithCores

SHARE = 0.5  # of PySCF's memory limit, for integrals that are kept
BLOCK = 400  # charges whose integrals are evaluated at once


class _Keeping:
    """Replaces the repeated work of PySCF's `PCM`; see there for the names of methods.

    Integrals and factors are kept with PySCF's intermediates of a geometry.
    """

    def _get_v(self: Any, dms: np.ndarray) -> np.ndarray:
        both = lib.pack_tril(dms + dms.transpose(0, 2, 1))
        n = dms.shape[-1]
        both[:, np.arange(n) * (np.arange(n) + 3) // 2] /= 2  # the diagonal
        potential = np.empty((len(dms), len(self.surface["grid_coords"])))
        for points, integrals in self._integrals():
            potential[:, points] = both @ integrals
        return potential

    def _get_vmat(self: Any, q: np.ndarray) -> np.ndarray:
        q = np.atleast_2d(q)
        matrices = (q[:, points] @ integrals.T for points, integrals in self._integrals())
        return -lib.unpack_tril(sum(matrices))

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

    def _gradient(self: Any, dm: np.ndarray, of_charges: Callable[..., np.ndarray]) -> np.ndarray:
        """Return the gradient of the electrostatic energy, (n_atoms, 3), Hartree/Bohr."""
        shifts = of_charges(self, dm) + grad_nuc(self, dm)  # update the charges to `dm`
        return shifts + self._gradient_with_electrons(dm)

    def _gradient_with_electrons(self: Any, dm: np.ndarray) -> np.ndarray:
        """Return the gradient of the charges' energy with the electrons, as PySCF's `grad_qv`.

        PySCF also evaluates derivatives of the integrals by the positions of charges; here these
        follow from translational invariance.
        """
        mol, charges = self.mol, self._intermediates["q_sym"]
        of_functions, of_points = np.zeros((mol.nao, 3)), np.empty((len(charges), 3))
        for first in range(0, len(charges), BLOCK // 8):
            points = slice(first, first + BLOCK // 8)
            slopes = self._evaluate("int3c2e_ip1", points, "s1")
            by_both = np.einsum("xijk,ij,k->kix", slopes, dm, charges[points])
            of_functions += 2 * by_both.sum(axis=0)
            of_points[points] = -2 * by_both.sum(axis=1)
        starts = mol.aoslice_by_atom()[:, 2]
        return np.add.reduceat(of_functions, starts) + [
            of_points[first:last].sum(axis=0) for first, last in self.surface["gslice_by_atom"]
        ]

    def _respond(self: Any, potential: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the charges that a potential induces, and those symmetrised for the energy."""
        known = self._intermediates
        if "factors" not in known:
            known["factors"] = lu_factor(known["K"])
        charges = lu_solve(known["factors"], known["R"] @ potential.T).T
        adjoint = (known["R"].T @ lu_solve(known["factors"], potential.T, trans=1)).T
        return charges, (charges + adjoint) / 2

    def _integrals(self: Any) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield blocks of charges and the integrals of pairs of basis functions with them.

        As many blocks as fit into memory are kept.
        """
        mol, surface = self.mol, self.surface
        kept = self._intermediates.setdefault("integrals", {})
        pairs = mol.nao * (mol.nao + 1) // 2
        room = SHARE * self.max_memory / (8e-6 * pairs * BLOCK)
        for first in range(0, len(surface["grid_coords"]), BLOCK):
            points = slice(first, first + BLOCK)
            if first in kept:
                yield points, kept[first]
                continue
            made = self._evaluate("int3c2e", points, "s2ij")
            if len(kept) + 1 <= room:
                kept[first] = made
            yield points, made

    def _evaluate(self: Any, name: str, points: slice, symmetry: str) -> np.ndarray:
        """Return integrals of pairs of basis functions with some of the charges."""
        mol, surface = self.mol, self.surface
        charges = gto.fakemol_for_charges(
            surface["grid_coords"][points], surface["charge_exp"][points] ** 2
        )
        charges.cart = mol.cart
        return df.incore.aux_e2(mol, charges, intor=mol._add_suffix(name), aosym=symmetry)


class KeepingPCM(_Keeping, PCM):
    """PySCF's polarizable continuum."""

    def grad(self, dm: np.ndarray) -> np.ndarray:
        """Return the gradient of the solvation energy, (n_atoms, 3), Hartree/Bohr."""
        return self._gradient(dm, pcm_solver)


class KeepingSMD(_Keeping, SMDWithCores):
    """PySCF's SMD."""

    def grad(self, dm: np.ndarray) -> np.ndarray:
        """Return the gradient of the solvation energy, (n_atoms, 3), Hartree/Bohr."""
        return self._gradient(dm, smd_solver) + self.cds_gradient()
