"""The calculator of a relaxation: PySCF, another program, or an ASE calculator of the user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from ase.calculators.calculator import CalculationFailed

from diffrelax.dft.optimizers.base import check_forces, check_same_state
from diffrelax.errors import MACHINE_ERRORS
from diffrelax.levels.programs import ProgramCalculator

if TYPE_CHECKING:
    import ase

    from diffrelax.dft.settings import DFTSettings
    from diffrelax.levels.density_functional import SCFState
    from diffrelax.molecule import Molecule


class LevelCalculator(Protocol):
    """Interface of the ASE calculators that relaxations use, one per molecule."""

    def get_potential_energy(self, atoms: ase.Atoms) -> float:
        """Evaluate the energy, eV."""

    def get_forces(self, atoms: ase.Atoms) -> np.ndarray:
        """Evaluate the forces, (n_atoms, 3), eV/Å."""

    def hessian(self, atoms: ase.Atoms) -> np.ndarray:
        """Evaluate second derivatives of the energy, (3 n_atoms, 3 n_atoms), eV/Å².

        Raises
        ------
        NotImplementedError
            If they must be calculated by differences of forces.
        """

    @property
    def state(self) -> SCFState | None:
        """State that the next SCF starts from; None if there is no SCF."""


class ASELevel:
    """An ASE calculator of the user as the level of a relaxation.

    Charge and multiplicity are passed as initial charges and magnetic moments, which some
    calculators read. Its errors are reported as failed calculations.

    Parameters
    ----------
    calculator : ase.calculators.calculator.Calculator
    molecule : Molecule

    Raises
    ------
    ValueError
        If it has no forces, or is set to another charge or multiplicity.
    """

    state = None

    def __init__(self, calculator: Any, molecule: Molecule) -> None:
        check_forces(calculator)
        check_same_state(molecule.charge, molecule.multiplicity, calculator)
        self._calculator, self._molecule = calculator, molecule

    def get_potential_energy(self, atoms: ase.Atoms) -> float:
        """Evaluate the energy, eV."""
        return float(self._ask("get_potential_energy", atoms))

    def get_forces(self, atoms: ase.Atoms) -> np.ndarray:
        """Evaluate the forces, (n_atoms, 3), eV/Å."""
        return np.asarray(self._ask("get_forces", atoms))

    def hessian(self, atoms: ase.Atoms) -> np.ndarray:
        """Raise NotImplementedError: differences of forces are used."""
        raise NotImplementedError

    def _ask(self, what: str, atoms: ase.Atoms) -> Any:
        atoms = atoms.copy()
        if charge := self._molecule.charge:
            atoms.set_initial_charges([charge] + [0] * (len(atoms) - 1))
        if unpaired := self._molecule.multiplicity - 1:
            atoms.set_initial_magnetic_moments([unpaired] + [0] * (len(atoms) - 1))
        try:
            return getattr(self._calculator, what)(atoms)
        except (*MACHINE_ERRORS, CalculationFailed):
            raise
        except Exception as error:
            raise CalculationFailed(f"{type(error).__name__}: {error}") from error


@contextmanager
def calculator_of(
    molecule: Molecule,
    settings: DFTSettings,
    state: SCFState | None = None,
    calculator: Any = None,
) -> Iterator[LevelCalculator]:
    """Yield the calculator of a molecule, which continues from an SCF state if one is given.

    The files of a program are in a temporary folder, which is removed at the end.

    Raises
    ------
    ValueError
        If the level cannot describe this molecule, or is not installed.
    """
    if calculator is not None:
        yield ASELevel(calculator, molecule)
        return
    if profile := settings.calculator:
        with TemporaryDirectory(prefix=f"diffrelax-{profile.program}-") as folder:
            yield ProgramCalculator(molecule, profile, Path(folder))
        return
    from diffrelax.levels.density_functional import DensityFunctional, mean_field  # takes PySCF

    functional = DensityFunctional(mean_field(molecule, **settings.mean_field))
    if state:
        functional.resume(state)
    yield functional
