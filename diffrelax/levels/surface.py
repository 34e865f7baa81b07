"""The potential energy surface of a molecule: energies of many geometries at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.linalg import helmert

from diffrelax.levels.calculators import get_calculator
from diffrelax.levels.forces import AtLevel

if TYPE_CHECKING:
    from diffrelax.molecule import Molecule


class Surface:
    """Energies of geometries of one molecule at a level of theory.

    Parameters
    ----------
    molecule : Molecule
    level : str
        One of `diffrelax.levels.LEVELS`.
    **settings
        See `get_calculator`.

    Attributes
    ----------
    n_calls : int
        Number of energies requested so far.
    n_failed : int
        Number of these for which the level failed.

    Raises
    ------
    ValueError
        If the level is unknown, not installed, or cannot describe this molecule.
    """

    def __init__(self, molecule: Molecule, level: str, **settings: Any) -> None:
        self._calculator = get_calculator(level, molecule, **settings)
        self._atoms = molecule.to_atoms()
        self._atoms.calc = self._calculator
        self.n_calls = self.n_failed = 0

    def energies(self, positions: np.ndarray) -> np.ndarray:
        """Evaluate the energies of geometries.

        Parameters
        ----------
        positions : (n, n_atoms, 3) array, Å

        Returns
        -------
        (n,) array, eV
            Infinite where the level fails, as it may if atoms are very close.
        """
        self.n_calls += len(positions)
        energies = np.array([self._energy(geometry) for geometry in positions])
        finite = np.isfinite(energies)
        self.n_failed += int((~finite).sum())
        return np.where(finite, energies, np.inf)

    def hessian(self, geometry: np.ndarray) -> np.ndarray:
        """Evaluate second derivatives by central differences, with translations removed.

        Parameters
        ----------
        geometry : (n_atoms, 3) array, Å

        Returns
        -------
        (d, d) array, eV/Å²
            Symmetric. The d = 3 n_atoms − 3 orthonormal coordinates are those of
            `scipy.linalg.helmert`, applied to the atoms.
        """
        self._atoms.positions = geometry
        basis = np.kron(helmert(len(geometry)), np.eye(3))
        return basis @ AtLevel.hessian(self._calculator, self._atoms) @ basis.T

    def _energy(self, geometry: np.ndarray) -> float:
        self._atoms.positions = geometry
        try:
            return self._calculator.energy_of(self._atoms)
        except (RuntimeError, ArithmeticError, ValueError):
            return np.inf
