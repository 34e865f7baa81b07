"""Whether a relaxation has ended at a minimum, and the way down from a saddle point."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diffrelax.dft.cheap_hessian import cheap_hessian
from diffrelax.dft.hessian import vibrations, wavenumber
from diffrelax.levels import get_calculator

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

    from diffrelax.dft.recorder import Checker
    from diffrelax.dft.settings import DFTSettings
    from diffrelax.molecule import Molecule

NOISE = 20.0  # cm⁻¹; of frequencies from finite differences and integration grids
STEP = 0.05  # Å, of the atom that moves most, for a difference of forces; of a motion up to SOFT
SHORT = 0.2  # of such a step, for forces without noise
SOFT = 500.0  # cm⁻¹; stiffer ones take steps that are shorter by as much
ALIKE = 2.0  # cm⁻¹, within which motions are degenerate, such as the bends of a linear molecule
PUSH = 0.15  # Å, off a saddle point


class Curvature(NamedTuple):
    """What is known of the vibrations at the end of a relaxation.

    Attributes
    ----------
    lowest : float, cm⁻¹
        Frequency, an imaginary one as a negative number.
    motion : (n_atoms, 3) array, amu^-½
        Of that frequency.
    frequencies : (3 n_atoms - k,) array, cm⁻¹
        Of all vibrations, ascending, at the level of the check: with ``"gfn2-xtb"``, those of DFT
        along the motions for which it was asked.
    """

    lowest: float
    motion: np.ndarray
    frequencies: np.ndarray

    @property
    def is_minimum(self) -> bool:
        """Whether no frequency is imaginary, to within the noise."""
        return self.lowest >= -NOISE


def look(molecule: Molecule, settings: DFTSettings, checker: Checker) -> Curvature | None:
    """Look for an imaginary frequency.

    With its own Hessian, DFT tells all frequencies. Otherwise it tells that of the softest motion
    of GFN2-xTB's Hessian, without what the forces of GFN2-xTB add to it there, along which it is
    asked for two gradients: a negative curvature is then one of DFT, and proves a saddle point; a
    positive one proves nothing of other motions. Steps stretch bonds that turn: what that adds is
    known of GFN2-xTB. So it goes for each other motion of that frequency, and for each whose
    frequency is imaginary for GFN2-xTB, which says little where the minimum is not one of GFN2-xTB.

    Parameters
    ----------
    molecule : Molecule
        Where the forces vanish.
    settings : DFTSettings
    checker : Checker

    Returns
    -------
    Curvature or None
        None for a single atom.

    Raises
    ------
    RuntimeError, ValueError
        If the check cannot be made.
    """
    if molecule.n_atoms == 1:
        return None
    if settings.checked_at == "dft":
        hessian = checker.hessian(molecule.to_atoms())
        frequencies, motions = vibrations(molecule, hessian)
        return Curvature(float(frequencies[0]), motions[0], frequencies)
    cheap = get_calculator("gfn2-xtb", molecule, solvent=settings.hessian_solvent)
    hessian = cheap_hessian(molecule, "gfn2-xtb", settings.hessian_solvent)
    frequencies, motions = vibrations(molecule, hessian)
    n_asked = int((frequencies < max(-NOISE, frequencies[0] + ALIKE)).sum())
    asked = [
        frequency_along(motion, molecule, checker, cheap, STEP * min(1.0, SOFT / abs(expected)))
        for motion, expected in zip(motions[:n_asked], frequencies[:n_asked], strict=True)
    ]
    frequencies[:n_asked] = asked
    return Curvature(min(asked), motions[np.argmin(asked)], np.sort(frequencies))


def push_off(molecule: Molecule, curvature: Curvature) -> Molecule:
    """Move a molecule off a saddle point along the motion of its imaginary frequency."""
    size = PUSH / np.linalg.norm(curvature.motion, axis=1).max()
    return molecule.with_positions(molecule.positions + size * curvature.motion, start="dft")


def frequency_along(
    motion: np.ndarray,
    molecule: Molecule,
    calculator: Calculator,
    cheap: Calculator,
    step: float = STEP,
) -> float:
    """Return the frequency of one motion, cm⁻¹, an imaginary one as a negative number.

    That of the softest vibration is at most as high (Rayleigh's principle). What a step of that
    length adds is taken from a cheap level, see `stretching`; else as in `curvature_along`.
    """
    curvature = curvature_along(motion, molecule, calculator, step)
    return float(wavenumber(curvature - stretching(motion, molecule, cheap, step)))


def stretching(
    motion: np.ndarray, molecule: Molecule, calculator: Calculator, step: float
) -> float:
    """Return what a long step adds to the curvature along a motion, eV Å⁻² amu⁻¹.

    A straight step turns bonds and so stretches them, which raises the energy by its fourth power.
    """
    long, short = (curvature_along(motion, molecule, calculator, s) for s in (step, SHORT * step))
    return (long - short) / (1 - SHORT**2)


def curvature_along(
    motion: np.ndarray, molecule: Molecule, calculator: Calculator, step: float
) -> float:
    """Return the curvature that the forces on both sides of a geometry tell of one motion.

    Parameters
    ----------
    motion : (n_atoms, 3) array, amu^-½
        See `diffrelax.dft.hessian.vibrations`.
    molecule : Molecule
    calculator : ase.calculators.calculator.Calculator
    step : float, Å
        Of the atom that moves most.

    Returns
    -------
    float, eV Å⁻² amu⁻¹
        Where forces change in proportion to the step, see `stretching`.
    """
    size = step / np.linalg.norm(motion, axis=1).max()
    atoms = molecule.to_atoms()
    slopes = []
    for side in (size, -size):
        atoms.positions = molecule.positions + side * motion
        slopes.append(-float((calculator.get_forces(atoms) * motion).sum()))
    return (slopes[0] - slopes[1]) / (2 * size)
