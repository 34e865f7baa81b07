"""Where a minimum lies, told by one gradient and a Hessian of a cheap level."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diffrelax.molecule.identity import identity_change
from diffrelax.units import KCAL_PER_MOL

if TYPE_CHECKING:
    from diffrelax.dft.recorder import Call
    from diffrelax.molecule import Molecule

# What nine in ten of 69 starts near their minima keep, 36 of them at B3LYP/6-31G(2df,p), the others
# with AIMNet2 in place of DFT: validation molecules (analysis/one_call.py), fall of energy in eV
FORCE_BOUND = 1.2  # eV/Å, times the square root of the fall
ENERGY_BOUND = 0.9  # eV, times the fall
RMSD_BOUND = 0.65  # Å, times the square root of the fall
LONGEST = 0.09  # Å, of an atom; a longer step may have been shortened by the optimizer


class Prediction(NamedTuple):
    """A minimum that no gradient call at its geometry has verified.

    Nine in ten such minima keep each of the bounds.

    Attributes
    ----------
    molecule : Molecule
        At the predicted geometry.
    energy : float, eV
        Predicted for the minimum.
    fmax_bound : float, eV/Å
        Of the largest force on an atom at the predicted geometry.
    energy_bound : float, eV
        Of the error of the energy.
    rmsd_bound : float, Å
        Of the root mean square deviation from the minimum.
    """

    molecule: Molecule
    energy: float
    fmax_bound: float
    energy_bound: float
    rmsd_bound: float

    @property
    def described(self) -> str:
        """The bounds in words."""
        return (
            "for molecules like QM9's, nine in ten have no force above "
            f"{self.fmax_bound:.2g} eV/Å, an error of the energy below "
            f"{self.energy_bound / KCAL_PER_MOL:.1g} kcal/mol and a deviation below "
            f"{self.rmsd_bound:.1g} Å"
        )


def predict(call: Call, positions: np.ndarray, fmax: float) -> Prediction | None:
    """Predict the minimum to which the first step of an optimizer leads.

    With the forces F and the Hessian H of a cheap level, the step s = H⁻¹F is to lower the energy
    by ½ F·s. What H lacks leaves some of it. In the metric of H, the length of the step is the
    square root of twice that fall, so forces and deviations that are left go as its square root.

    Parameters
    ----------
    call : Call
        The only one so far.
    positions : (n_atoms, 3) array, Å
        After the step.
    fmax : float
        Largest force on an atom that is asked for, eV/Å.

    Returns
    -------
    Prediction or None
        None where the force may be larger, the step may not be all of H⁻¹F, or the molecule would
        not be the same.
    """
    start = call.molecule
    step = positions - start.positions
    fall = 0.5 * float((call.internal_forces * step).sum())
    length = sqrt(max(fall, 0.0))
    if FORCE_BOUND * length >= fmax or np.linalg.norm(step, axis=1).max() > LONGEST:
        return None
    if identity_change(start, positions):
        return None
    return Prediction(
        molecule=start.with_positions(positions, start="dft"),
        energy=call.energy - fall,
        fmax_bound=FORCE_BOUND * length,
        energy_bound=ENERGY_BOUND * length**2,
        rmsd_bound=RMSD_BOUND * length,
    )
