"""What a DFT relaxation hands back."""

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

    In the natural mixture of isotopes, but for atoms that are labelled.
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
    """A DFT relaxation, converged or not, and what it cost.

    Parameters
    ----------
    molecule : Molecule
        At the last geometry that was calculated; at the start geometry if none was; or at the
        predicted one.
    converged : bool
        Whether the criterion is met, or predicted to be, and the molecule is still the same one.
    reason : str
        What went wrong; empty if converged.
    energies : tuple of float, eV
        One for each gradient call.
    trajectory : (n_calls, n_atoms, 3) array, Å
        The geometry of each gradient call.
    all_forces : (n_calls, n_atoms, 3) array, eV/Å
        At each of these, without what would move or turn the molecule as a whole.
    scf_cycles : int or None
        Of all gradient calls, those of failed SCF calculations included; None if the program does
        not tell.
    times : dict of str to Time
        By stage: ``hessian``, ``dft`` (SCF and gradients), ``check`` (of the minimum)
        and ``total``, with what the optimizer and other parts of the last life took.
    criterion : str
        The stopping rule in words.
    notes : tuple of str
        What differs from the settings, such as a Hessian that could not be had.
    settings : DFTSettings
    lowest_frequency : float or None, cm⁻¹
        Lowest vibrational frequency at the end, an imaginary one as a negative number; with
        a check at ``"gfn2-xtb"`` that of DFT along motions of that level, at least as high. None if
        not asked for, or not to be had.
    thermochemistry : Thermochemistry or None
        Of a minimum, if asked for.
    prediction : Prediction or None
        Of a minimum at which nothing was calculated, with the bounds of its errors.
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
        """Number of energy-and-gradient calls; the first counts."""
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
        """Root mean square over the atoms of the force on one, eV/Å, for each gradient call."""
        return tuple(np.sqrt((self.all_forces**2).sum(axis=2).mean(axis=1)).tolist())

    @property
    def energy(self) -> float:
        """Energy of the last geometry, eV; that of a predicted one is predicted, too."""
        if self.prediction:
            return self.prediction.energy
        return self.energies[-1] if self.energies else nan

    @property
    def fmax(self) -> float:
        """Largest force on an atom at the last geometry, eV/Å; NaN if not calculated there."""
        return self.fmaxes[-1] if self.fmaxes and not self.prediction else nan
