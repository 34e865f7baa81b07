"""Prediction of a minimum from one gradient and a Hessian of a cheap level."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diffrelax.molecule.identity import identity_change
from diffrelax.units import KCAL_PER_MOL

if TYPE_CHECKING:
    from diffrelax.dft.recorder import Call
    from diffrelax.molecule import Molecule

# Hold for nine in ten of 69 starts near minima, 36 of them at B3LYP/6-31G(2df,p), the others
# with AIMNet2 in place of DFT: validation molecules (analysis/one_call.py), energy drop in eV
FORCE_BOUND = 1.2  # eV/Å, times the square root of the energy drop
ENERGY_BOUND = 0.9  # eV, times the energy drop
RMSD_BOUND = 0.65  # Å, times the square root of the energy drop
LONGEST = 0.09  # Å, of an atom; a longer step may have been shortened by the optimizer


class Prediction(NamedTuple):
    """A predicted minimum, not verified by a gradient call.

    Each bound holds for nine in ten such minima.

    Attributes
    ----------
    molecule : Molecule
        At the predicted geometry.
    energy : float, eV
        Predicted energy of the minimum.
    fmax_bound : float, eV/Å
        Bound of the largest force on an atom at the predicted geometry.
    energy_bound : float, eV
        Bound of the error of the energy.
    rmsd_bound : float, Å
        Bound of the root mean square deviation from the minimum.
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
    """Predict the minimum after the first step of an optimizer.

    With the forces F and the Hessian H of a cheap level, the step s = H⁻¹F lowers the energy by
    about ½ F·s. Errors of H leave some of this energy. In the metric of H, the length of the step
    is the square root of twice the energy drop, so remaining forces and deviations scale with its
    square root.

    Parameters
    ----------
    call : Call
        First gradient call.
    positions : (n_atoms, 3) array, Å
        Positions after the first step.
    fmax : float
        Largest force on an atom to reach, eV/Å.

    Returns
    -------
    Prediction or None
        None if the force may be larger, the step may be shorter than H⁻¹F, or the molecule would
        change its identity.
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
