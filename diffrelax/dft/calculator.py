"""The level of theory of a relaxation: DFT by PySCF, or a program of the user's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Protocol

from diffrelax.levels.density_functional import DensityFunctional, SCFState, mean_field
from diffrelax.levels.programs import ProgramCalculator

if TYPE_CHECKING:
    import ase
    import numpy as np

    from diffrelax.dft.settings import DFTSettings
    from diffrelax.molecule import Molecule


class LevelCalculator(Protocol):
    """What a relaxation asks of an ASE calculator of one molecule."""

    def get_potential_energy(self, atoms: ase.Atoms) -> float:
        """Evaluate the energy, eV."""

    def get_forces(self, atoms: ase.Atoms) -> np.ndarray:
        """Evaluate the forces, (n_atoms, 3), eV/Å."""

    def hessian(self, atoms: ase.Atoms) -> np.ndarray:
        """Evaluate second derivatives of the energy, (3 n_atoms, 3 n_atoms), eV/Å².

        Raises
        ------
        NotImplementedError
            If there is no other way to them than differences of forces.
        """

    @property
    def state(self) -> SCFState | None:
        """What the next calculation takes over from the last one; None if nothing."""


@contextmanager
def calculator_of(
    molecule: Molecule, settings: DFTSettings, state: SCFState | None = None
) -> Iterator[LevelCalculator]:
    """Yield the calculator of a molecule, which goes on from a state if one is given.

    The files of a program are in a temporary folder, and are removed at the end.

    Raises
    ------
    ValueError
        If the level cannot describe this molecule, or is not installed.
    """
    if profile := settings.calculator:
        with TemporaryDirectory(prefix=f"diffrelax-{profile.program}-") as folder:
            yield ProgramCalculator(molecule, profile, Path(folder))
        return
    calculator = DensityFunctional(mean_field(molecule, **settings.mean_field))
    if state:
        calculator.resume(state)
    yield calculator
