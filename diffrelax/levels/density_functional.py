"""Kohn-Sham density functional theory by PySCF, as an ASE calculator."""

from __future__ import annotations

from typing import Any, NamedTuple

import ase
import numpy as np
from ase.calculators.calculator import SCFError, all_changes
from ase.units import Bohr, Hartree

from diffrelax.choices import DEFAULT_BASIS
from diffrelax.levels.forces import AtLevel
from diffrelax.levels.pyscf_library import loading_pyscf
from diffrelax.memory import return_freed
from diffrelax.molecule import Molecule

with loading_pyscf():
    from pyscf import dft, lib
    from pyscf.pbc.tools.pyscf_ase import PySCF
    from pyscf.scf.uhf import spin_square

    from diffrelax.levels.basis import choose_basis, fitting_functions, pyscf_molecule
    from diffrelax.levels.composites import correct
    from diffrelax.levels.fast_pyscf import is_fast
    from diffrelax.levels.fast_pyscf.density_fitting import fit_quickly
    from diffrelax.levels.fast_pyscf.quadrature import integrate_in_blocks
    from diffrelax.levels.functionals import read_functional
    from diffrelax.levels.pople import FIT, is_6_31g_2df_p
    from diffrelax.levels.solvents import dissolve

SCARCE = 0.5  # share of the memory that PySCF may take


class SCFState(NamedTuple):
    """State of an SCF calculation from which the next one starts.

    Parameters
    ----------
    orbitals : (n_basis, n_orbitals) array
        Coefficients; with a leading axis of 2 for unrestricted orbitals. Empty: the next
        calculation starts from a guess.
    occupations : (n_orbitals,) array
        Occupation numbers, with the same leading axis.
    second_order : bool
        See `DensityFunctional`.
    contamination : float
        Excess of ⟨S²⟩ of unrestricted orbitals over that of a pure spin state.
    """

    orbitals: np.ndarray
    occupations: np.ndarray
    second_order: bool
    contamination: float = 0.0


class DensityFunctional(AtLevel, PySCF):
    """PySCF's ASE calculator, with second-order SCF where the SCF does not converge.

    Each calculation starts from the density of the previous one. If an SCF does not converge,
    second-order SCF continues it, and is used for all following calculations if it converges.

    Parameters
    ----------
    method : pyscf.dft.rks.KohnShamDFT
        See `mean_field`.

    Attributes
    ----------
    scf_cycles : int
        Cycles of all SCF calculations so far; outer iterations of second-order SCF.
    second_order : bool
        Whether second-order SCF took over and converged.

    Raises
    ------
    ase.calculators.calculator.SCFError
        If second-order SCF does not converge either.
    """

    def __init__(self, method: Any) -> None:
        self.scf_cycles = 0
        self.second_order = False
        self.method_scan: Any = None
        self._known = 0.0  # contamination
        method.callback = self._count_cycle
        super().__init__(method=method)

    @classmethod
    def of(cls, molecule: Molecule, **settings: Any) -> DensityFunctional:
        """Build the calculator for a molecule; see `mean_field` for its settings."""
        return cls(mean_field(molecule, **settings))

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: list[str] | tuple[str, ...] = ("energy",),
        system_changes: list[str] = all_changes,
    ) -> None:
        """Evaluate energy (eV) and, if requested, forces (eV/Å)."""
        if lib.current_memory()[0] > SCARCE * self.method.max_memory:
            return_freed()  # PySCF counts freed memory as used, and would use the disk
        if self._converges(atoms, properties, system_changes):
            return
        if not self.second_order:
            self.method_scan = _second_order(self.method, self.method_scan)
            self.second_order = self._converges(atoms, properties, system_changes)
            if self.second_order:
                return
        raise SCFError(
            f"the SCF did not converge in {self.method.max_cycle} cycles, "
            "nor did second-order SCF: try another functional, basis or geometry"
        )

    @property
    def state(self) -> SCFState:
        """The state from which the next calculation starts."""
        scan = self.method_scan
        return SCFState(scan.mo_coeff, scan.mo_occ, self.second_order, self._contamination())

    def resume(self, state: SCFState) -> None:
        """Start the next calculation from a state, as from the previous calculation."""
        self.second_order, self._known = state.second_order, state.contamination
        if state.second_order:
            self.method_scan = self.method.newton().as_scanner()
        if state.orbitals.size:
            self.method_scan.mo_coeff, self.method_scan.mo_occ = state.orbitals, state.occupations

    def hessian(self, atoms: ase.Atoms) -> np.ndarray:
        """Evaluate the analytic second derivatives of the energy.

        PySCF neglects the response of the integration grid, which leads to large errors in the
        diagonal block of each atom. These blocks are derived from the others instead, by
        translational invariance.

        Returns
        -------
        (3 n_atoms, 3 n_atoms) array, eV/Å²

        Raises
        ------
        NotImplementedError
            If PySCF has none for this functional, or the molecule has no β electrons.
        """
        if self.method.mol.nelec[1] == 0:
            raise NotImplementedError("PySCF's needs electrons of both spins")
        self.get_potential_energy(atoms)
        method = self.method.copy().reset(self.method_scan.mol)
        for name in ("mo_coeff", "mo_occ", "mo_energy", "e_tot", "converged"):
            setattr(method, name, getattr(self.method_scan, name))
        blocks = method.Hessian().kernel()  # (n_atoms, n_atoms, 3, 3)
        for i, row in enumerate(blocks):
            row[i] -= row.sum(axis=0)
        hessian = blocks.transpose(0, 2, 1, 3).reshape(3 * len(atoms), -1) * Hartree / Bohr**2
        return (hessian + hessian.T) / 2

    def _contamination(self) -> float:
        scan, spin = self.method_scan, self.method.mol.spin / 2
        # there are no orbitals if the SCF raised an error
        if np.ndim(scan.mo_occ) == 2 and scan.mo_coeff is not None:
            occupied = [c[:, n > 0] for c, n in zip(scan.mo_coeff, scan.mo_occ, strict=True)]
            found, _ = spin_square(occupied, scan.mol.intor_symmetric("int1e_ovlp"))
            self._known = float(found) - spin * (spin + 1)
        return self._known

    def _converges(self, *arguments: Any) -> bool:
        try:
            super().calculate(*arguments)
        except RuntimeError as error:
            if not str(error).endswith("not converged"):
                raise
            return False
        return True

    def _count_cycle(self, _: dict[str, Any]) -> None:
        self.scf_cycles += 1


def _second_order(method: Any, failed: Any) -> Any:
    scanner = method.newton().as_scanner()
    scanner.mo_coeff, scanner.mo_occ = failed.mo_coeff, failed.mo_occ
    return scanner


def mean_field(
    molecule: Molecule,
    *,
    xc: str = "b3lyp",
    basis: str = DEFAULT_BASIS,
    density_fit: bool = True,
    grid_level: int = 3,
    solvent: str = "",
) -> Any:
    """Set up a PySCF mean field: restricted for singlets, unrestricted otherwise.

    Parameters
    ----------
    molecule : Molecule
    xc : str
        Any functional that PySCF knows. ``b3lyp`` is Gaussian's variant, with VWN3. A dispersion
        suffix such as ``-d3bj`` needs the package pyscf-dispersion, as do the composite methods
        ``r2scan-3c`` and ``b97-3c``.
    basis : str
        Any basis set that PySCF knows, with its effective core potentials. ``6-31G(2df,p)`` is
        defined as in Gaussian and QM9 (see `diffrelax.levels.pople`); all others are PySCF's, with
        spherical d functions in Pople's. A composite method uses its own basis set in place of the
        default.
    density_fit : bool
        Whether to approximate the Coulomb and exchange integrals by density fitting.
    grid_level : int
        PySCF's integration grid, 0 to 9. Nonlocal correlation (VV10, as in ``wb97x-v``) uses grid 1
        at most, as is usual.
    solvent : str
        Name or dielectric constant, see `diffrelax.levels.solvents`; empty in the gas phase.

    Raises
    ------
    ValueError
        If the functional, the basis or the solvent is unknown, or the basis lacks an element, is
        not that of the composite method, or is made for pseudopotentials (ccECP, BFD, GTH).
    """
    functional = read_functional(xc)
    basis = choose_basis(functional, basis)
    method = (dft.RKS if molecule.multiplicity == 1 else dft.UKS)(pyscf_molecule(molecule, basis))
    if density_fit:
        fit = FIT if is_6_31g_2df_p(basis) else fitting_functions(method.mol)
        method = method.density_fit(auxbasis=fit)
        if is_fast():
            method.with_df = fit_quickly(method.with_df)
    if is_fast():
        method = integrate_in_blocks(method)
    method.xc = functional.xc
    method.disp = functional.dispersion
    method.nlc = functional.nonlocal_correlation
    method.grids.level = grid_level
    method.nlcgrids.level = min(grid_level, 1)
    method.chkfile = None
    method.conv_check = False  # no final cycle, which would only remove a level shift
    if functional.composite:
        method = correct(method, functional.composite)
    return dissolve(method, solvent) if solvent else method
