"""PySCF's solvation model SMD, corrected for atoms with core potentials."""

from __future__ import annotations

import numpy as np

from diffrelax.levels.pyscf_library import loading_pyscf

with loading_pyscf():
    from pyscf import gto
    from pyscf.solvent.grad.pcm import grad_nuc, grad_qv
    from pyscf.solvent.grad.smd import grad_solver
    from pyscf.solvent.hessian.smd import get_cds as second_derivatives
    from pyscf.solvent.smd import SMD
    from pyscf.solvent.smd import get_cds_legacy as energy_and_gradient


class SMDWithCores(SMD):
    """SMD with terms of cavity, dispersion and solvent structure for the right elements.

    PySCF identifies elements by the nuclear charge less that of a core potential: with LANL2DZ,
    it takes chlorine for nitrogen.
    """

    e_cds: float | None

    def get_cds(self) -> float:
        """Return the energy of these terms, Hartree."""
        if self.e_cds is None:
            self.e_cds = float(energy_and_gradient(self._with_cores())[0])
        return self.e_cds

    def cds_gradient(self) -> np.ndarray:
        """Return the gradient of these terms, (n_atoms, 3), Hartree/Bohr."""
        gradient: np.ndarray = energy_and_gradient(self._with_cores())[1]
        return gradient

    def grad(self, dm: np.ndarray) -> np.ndarray:
        """Return the gradient of the solvation energy, (n_atoms, 3), Hartree/Bohr."""
        electrostatic = grad_solver(self, dm) + grad_nuc(self, dm) + grad_qv(self, dm)
        return electrostatic + self.cds_gradient()

    def hess(self, dm: np.ndarray) -> np.ndarray:
        """Return the second derivatives, (n_atoms, n_atoms, 3, 3), Hartree/Bohr²."""
        hessian = super().hess(dm)
        if self.mol.has_ecp():
            hessian += second_derivatives(self._with_cores()) - second_derivatives(self)
        return hessian

    def _with_cores(self) -> SMDWithCores:
        """Return the same model with full nuclear charges."""
        if not self.mol.has_ecp():
            return self
        full = self.copy()
        full.mol = self.mol.copy()
        full.mol._atm[:, gto.CHARGE_OF] = [gto.charge(symbol) for symbol in self.mol.elements]
        return full
