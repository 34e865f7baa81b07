"""Whether a relaxation has ended at a minimum, or at a saddle point."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from diffrelax.clock import Time
from diffrelax.dft.hessian import gfn2_hessian, vibrations, wavenumber

if TYPE_CHECKING:
    from diffrelax.dft.result import DFTRelaxation
    from diffrelax.levels.density_functional import DensityFunctional
    from diffrelax.molecule import Molecule

NOISE = 20.0  # cm⁻¹; of frequencies from finite differences and integration grids
STEP = 0.05  # Å, of the atom that moves most


def check(result: DFTRelaxation, calculator: DensityFunctional) -> DFTRelaxation:
    """Look for an imaginary frequency at the end of a converged relaxation.

    With its own Hessian, DFT tells all frequencies. Otherwise it tells that of one motion, the
    softest of GFN2-xTB's Hessian, along which it is asked for two gradients: a negative curvature
    is then one of DFT, and proves a saddle point; a positive one proves nothing of other motions.

    Parameters
    ----------
    result : DFTRelaxation
    calculator : DensityFunctional
        Of the relaxation.

    Returns
    -------
    DFTRelaxation
        Not converged if there is one; with a note if the check cannot be made.
    """
    started = Time.now()
    level = result.settings.check_minimum
    lowest, reason, notes = None, "", result.notes
    try:
        if level == "dft":
            hessian = calculator.hessian(result.molecule.to_atoms())
            lowest = min(vibrations(result.molecule, hessian)[0].tolist(), default=None)
        else:
            _, motions = vibrations(
                result.molecule, gfn2_hessian(result.molecule, result.settings.solvent)
            )
            lowest = frequency_along(motions[0], result.molecule, calculator)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        notes = (*notes, f"not checked to be a minimum at level {level}: {error}")
    if lowest is not None and lowest < -NOISE:
        along = "" if level == "dft" else f", along the softest motion of {level}"
        reason = f"no minimum: imaginary frequency of {-lowest:.0f} cm⁻¹{along}"
    time = Time.now() - started
    return replace(
        result,
        converged=not reason,
        reason=reason,
        notes=notes,
        lowest_frequency=lowest,
        times=result.times | {"check": time, "total": result.times["total"] + time},
    )


def frequency_along(motion: np.ndarray, molecule: Molecule, calculator: DensityFunctional) -> float:
    """Return the frequency that the forces on both sides of a geometry tell of one motion.

    That of the softest vibration is at most as high (Rayleigh's principle).

    Parameters
    ----------
    motion : (n_atoms, 3) array, amu^-½
        See `diffrelax.dft.hessian.vibrations`.
    molecule : Molecule
    calculator : DensityFunctional

    Returns
    -------
    float, cm⁻¹
        An imaginary one as a negative number.
    """
    size = STEP / np.linalg.norm(motion, axis=1).max()
    atoms = molecule.to_atoms()
    slopes = []
    for side in (size, -size):
        atoms.positions = molecule.positions + side * motion
        slopes.append(-float((calculator.get_forces(atoms) * motion).sum()))
    return float(wavenumber((slopes[0] - slopes[1]) / (2 * size)))
