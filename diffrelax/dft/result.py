"""Results of DFT relaxations."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import nan
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from diffrelax.clock import Time
from diffrelax.entries import Entries

if TYPE_CHECKING:
    from diffrelax.dft.prediction import Prediction
    from diffrelax.dft.settings import DFTSettings
    from diffrelax.molecule import Molecule


class Thermochemistry(Entries):
    """Energies of an ideal gas of rigid rotors with harmonic vibrations.

    Masses are those of the natural mixture of isotopes, except for labelled atoms.
    """

    temperature: float = Field(description="K")
    pressure: float = Field(description="Pa")
    symmetry_number: int = Field(description="rotations that map the geometry onto itself")
    frequencies: tuple[float, ...] = Field(description="cm⁻¹, ascending")
    zero_point_energy: float = Field(description="eV")
    enthalpy: float = Field(description="eV, with the energies of the electrons and zero point")
    entropy: float = Field(description="eV/K")
    gibbs_energy: float = Field(description="eV, enthalpy − temperature · entropy")
    gibbs_energy_quasi_harmonic: float = Field(
        description="eV, with the vibrations below 100 cm⁻¹ turning into rotors (Grimme 2012, "
        "doi 10.1002/chem.201200497)"
    )


@dataclass(frozen=True, eq=False)
class DFTRelaxation:
    """A DFT relaxation, converged or not, and its cost.

    Parameters
    ----------
    molecule : Molecule
        The molecule at the predicted geometry, or at the last one calculated; at the start
        geometry if none was.
    converged : bool
        Whether the criterion is met, or predicted to be, and the molecule is still the same.
    reason : str
        Why it did not converge; empty if it did.
    energies : tuple of float, eV
        One for each gradient call.
    trajectory : (n_calls, n_atoms, 3) array, Å
        The geometry of each gradient call.
    all_forces : (n_calls, n_atoms, 3) array, eV/Å
        The forces of each gradient call, without net translation and rotation.
    scf_cycles : int or None
        Cycles of all gradient calls, including failed SCF calculations; None if the program does
        not report them.
    times : dict of str to Time
        By stage: ``hessian``, ``dft`` (SCF and gradients), ``check`` (of the minimum)
        and ``total``, which includes the optimizer; its time before a restart is not counted.
    criterion : str
        The convergence criterion in words.
    notes : tuple of str
        Deviations from the settings, such as a Hessian that was not available, and warnings.
    settings : DFTSettings
    lowest_frequency : float or None, cm⁻¹
        Lowest vibrational frequency at the end, negative if imaginary. A check at ``"gfn2-xtb"``
        gives the DFT frequency along a mode of that level, an upper bound. None if not requested
        or not available.
    thermochemistry : Thermochemistry or None
        Thermochemistry of the minimum, if requested.
    prediction : Prediction or None
        The predicted minimum, with bounds of its errors, if the relaxation ended with one.
    """

    molecule: Molecule
    converged: bool
    reason: str
    energies: tuple[float, ...]
    trajectory: np.ndarray = field(repr=False)
    all_forces: np.ndarray = field(repr=False)
    scf_cycles: int | None
    times: dict[str, Time]
    criterion: str
    notes: tuple[str, ...]
    settings: DFTSettings = field(repr=False)
    lowest_frequency: float | None = None
    thermochemistry: Thermochemistry | None = None
    prediction: Prediction | None = None

    @property
    def seconds(self) -> dict[str, float]:
        """Wall time by stage, s."""
        return {stage: time.wall for stage, time in self.times.items()}

    @property
    def gradient_calls(self) -> int:
        """Number of energy-and-gradient calls, including the first."""
        return len(self.energies)

    @property
    def forces(self) -> np.ndarray:
        """Internal forces at the last geometry, (n_atoms, 3), eV/Å; NaN if not calculated."""
        if self.energies and not self.prediction:
            return self.all_forces[-1]
        return np.full_like(self.molecule.positions, nan)

    @property
    def fmaxes(self) -> tuple[float, ...]:
        """Largest force on an atom, eV/Å, one for each gradient call."""
        return tuple(np.linalg.norm(self.all_forces, axis=2).max(axis=1).tolist())

    @property
    def rms_forces(self) -> tuple[float, ...]:
        """Root mean square over the atoms of the force on an atom, eV/Å, for each gradient call."""
        return tuple(np.sqrt((self.all_forces**2).sum(axis=2).mean(axis=1)).tolist())

    @property
    def energy(self) -> float:
        """Energy of the last geometry, eV; predicted if the geometry is predicted."""
        if self.prediction:
            return self.prediction.energy
        return self.energies[-1] if self.energies else nan

    @property
    def fmax(self) -> float:
        """Largest force on an atom at the last geometry, eV/Å; NaN if not calculated there."""
        return self.fmaxes[-1] if self.fmaxes and not self.prediction else nan
