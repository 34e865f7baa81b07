"""Zero-point energies, enthalpies and free energies of minima."""

from __future__ import annotations

from collections.abc import Sequence
from math import log

from ase.thermochemistry import HarmonicMode, IdealGasThermo, RRHOMode
from ase.units import J, invcm, kB, mol

from diffrelax.dft.hessian import count_vibrations
from diffrelax.dft.result import Thermochemistry
from diffrelax.molecule import Molecule
from diffrelax.molecule.symmetry import find_symmetry
from diffrelax.units import KCAL_PER_MOL

LOW = 100.0  # cm⁻¹; equal weights of vibration and rotor (Grimme 2012)
SAME_STATE = 0.005  # kcal/mol; smaller differences are not noted


def thermochemistry(
    molecule: Molecule,
    frequencies: Sequence[float],
    energy: float,
    *,
    temperature: float,
    pressure: float,
) -> Thermochemistry:
    """Calculate thermochemistry from an electronic energy and vibrational frequencies.

    Parameters
    ----------
    molecule : Molecule
        Molecule at a minimum.
    frequencies : sequence of float, cm⁻¹
        Frequencies of all vibrations. Imaginary frequencies within the noise count as real.
    energy : float, eV
        Electronic energy.
    temperature : float, K
    pressure : float, Pa
    """
    atoms = molecule.to_atoms()
    symmetry = find_symmetry(molecule).number
    quanta = [abs(frequency) * invcm for frequency in frequencies]
    gas = IdealGasThermo(
        quanta,
        _shape(molecule),
        potentialenergy=energy,
        atoms=atoms,
        symmetrynumber=symmetry,
        spin=(molecule.multiplicity - 1) / 2,
        vib_selection="exact",
    )
    inertia = atoms.get_moments_of_inertia().mean()
    more_entropy = sum(
        RRHOMode(quantum, inertia, tau=LOW).get_entropy(temperature, contributions=False)
        - HarmonicMode(quantum).get_entropy(temperature, contributions=False)
        for quantum in quanta
    )
    enthalpy = gas.get_enthalpy(temperature, verbose=False)
    entropy = gas.get_entropy(temperature, pressure, verbose=False)
    gibbs_energy = enthalpy - temperature * entropy
    return Thermochemistry(
        temperature=temperature,
        pressure=pressure,
        symmetry_number=symmetry,
        frequencies=tuple(frequencies),
        zero_point_energy=sum(quanta) / 2,
        enthalpy=enthalpy,
        entropy=entropy,
        gibbs_energy=gibbs_energy,
        gibbs_energy_quasi_harmonic=gibbs_energy - temperature * more_entropy,
    )


def standard_state(temperature: float, pressure: float) -> str:
    """Return a note on how a pressure differs from 1 mol/L, to which solvation energies refer.

    Parameters
    ----------
    temperature : float, K
    pressure : float, Pa

    Returns
    -------
    str
        Empty if the pressure is that of 1 mol/L.
    """
    molar = 1000 * mol * kB / J * temperature
    change = kB * temperature * log(molar / pressure) / KCAL_PER_MOL
    if abs(change) < SAME_STATE:
        return ""
    return (
        f"Gibbs energies are those at {pressure:g} Pa: at 1 mol/L (pressure {molar:.0f} "
        f"Pa), to which energies of solvation refer, they differ by {change:+.2f} kcal/mol"
    )


def _shape(molecule: Molecule) -> str:
    if molecule.n_atoms == 1:
        return "monatomic"
    linear = count_vibrations(molecule.positions) == molecule.positions.size - 5
    return "linear" if linear else "nonlinear"
