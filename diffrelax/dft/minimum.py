"""Checks of minima, and displacement from saddle points."""

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
STEP = 0.05  # Å, of the atom that moves most, for differences of forces along modes below SOFT
SHORT = 0.2  # fraction of that step, for forces without noise
SOFT = 500.0  # cm⁻¹; steps along stiffer modes are shorter in proportion
ALIKE = 2.0  # cm⁻¹, within which modes are degenerate, such as the bends of a linear molecule
PUSH = 0.15  # Å, off a saddle point


class Curvature(NamedTuple):
    """Vibrations at the end of a relaxation.

    Attributes
    ----------
    lowest : float, cm⁻¹
        Lowest frequency; negative if imaginary.
    motion : (n_atoms, 3) array, amu^-½
        Its normal mode.
    frequencies : (3 n_atoms - k,) array, cm⁻¹
        All frequencies, ascending, at the level of the check; with ``"gfn2-xtb"``, the modes that
        were checked have DFT frequencies.
    """

    lowest: float
    motion: np.ndarray
    frequencies: np.ndarray

    @property
    def is_minimum(self) -> bool:
        """Whether no frequency is imaginary beyond the noise."""
        return self.lowest >= -NOISE


def look(molecule: Molecule, settings: DFTSettings, checker: Checker) -> Curvature | None:
    """Check a minimum for imaginary frequencies.

    At the level ``"dft"`` all frequencies come from the DFT Hessian. Otherwise two DFT gradients
    give the curvature along the softest mode of the GFN2-xTB Hessian (see `cheap_hessian`), along
    modes degenerate with it, and along each mode that is imaginary at GFN2-xTB. A negative
    curvature proves a saddle point; positive curvatures say nothing of other modes. GFN2-xTB
    corrects for the stretching of bonds by finite steps.

    Parameters
    ----------
    molecule : Molecule
        At a stationary point.
    settings : DFTSettings
    checker : Checker

    Returns
    -------
    Curvature or None
        None for a single atom.

    Raises
    ------
    RuntimeError, ValueError
        If the check fails.
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
    """Displace a molecule from a saddle point along its imaginary mode."""
    size = PUSH / np.linalg.norm(curvature.motion, axis=1).max()
    return molecule.with_positions(molecule.positions + size * curvature.motion, start="dft")


def frequency_along(
    motion: np.ndarray,
    molecule: Molecule,
    calculator: Calculator,
    cheap: Calculator,
    step: float = STEP,
) -> float:
    """Return the frequency along a mode, cm⁻¹; negative if imaginary.

    The lowest vibrational frequency is at most as high (Rayleigh's principle). The error of the
    finite step is estimated at a cheap level, see `stretching`. Other parameters are those of
    `curvature_along`.
    """
    curvature = curvature_along(motion, molecule, calculator, step)
    return float(wavenumber(curvature - stretching(motion, molecule, cheap, step)))


def stretching(
    motion: np.ndarray, molecule: Molecule, calculator: Calculator, step: float
) -> float:
    """Return the error that a finite step causes in a curvature, eV Å⁻² amu⁻¹.

    A straight step along a rotation of bonds stretches them, which adds a quartic term to the
    energy.
    """
    long, short = (curvature_along(motion, molecule, calculator, s) for s in (step, SHORT * step))
    return (long - short) / (1 - SHORT**2)


def curvature_along(
    motion: np.ndarray, molecule: Molecule, calculator: Calculator, step: float
) -> float:
    """Return the curvature along a mode, from forces on both sides of a geometry.

    Parameters
    ----------
    motion : (n_atoms, 3) array, amu^-½
        See `diffrelax.dft.hessian.vibrations`.
    molecule : Molecule
    calculator : ase.calculators.calculator.Calculator
    step : float, Å
        Displacement of the atom that moves most.

    Returns
    -------
    float, eV Å⁻² amu⁻¹
        Assumes a linear change of forces, see `stretching`.
    """
    size = step / np.linalg.norm(motion, axis=1).max()
    atoms = molecule.to_atoms()
    slopes = []
    for side in (size, -size):
        atoms.positions = molecule.positions + side * motion
        slopes.append(-float((calculator.get_forces(atoms) * motion).sum()))
    return (slopes[0] - slopes[1]) / (2 * size)
