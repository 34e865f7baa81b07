"""Zero-point energies, enthalpies and free energies of minima."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ase.thermochemistry import HarmonicMode, IdealGasThermo, RRHOMode
from ase.units import invcm

from diffrelax.dft.hessian import count_vibrations
from diffrelax.molecule import Molecule
from diffrelax.molecule.symmetry import find_symmetry

LOW = 100.0  # cm⁻¹; half way from a vibration to a rotor (Grimme 2012)


@dataclass(frozen=True)
class Thermochemistry:
    """An ideal gas of rigid rotors with harmonic vibrations, in the natural mixture of isotopes.

    Attributes
    ----------
    temperature : float, K
    pressure : float, Pa
    symmetry_number : int
        Number of rotations that lay the geometry on itself.
    frequencies : tuple of float, cm⁻¹
        Ascending.
    zero_point_energy : float, eV
    enthalpy : float, eV
        The energy of the electrons and of the zero point included.
    entropy : float, eV/K
    gibbs_energy : float, eV
        Enthalpy − temperature · entropy.
    gibbs_energy_quasi_harmonic : float, eV
        The same with the vibrations below 100 cm⁻¹ turning into rotors (Grimme 2012,
        doi 10.1002/chem.201200497).
    """

    temperature: float
    pressure: float
    symmetry_number: int
    frequencies: tuple[float, ...]
    zero_point_energy: float
    enthalpy: float
    entropy: float
    gibbs_energy: float
    gibbs_energy_quasi_harmonic: float


def thermochemistry(
    molecule: Molecule,
    frequencies: Sequence[float],
    energy: float,
    *,
    temperature: float,
    pressure: float,
) -> Thermochemistry:
    """Calculate what vibrations, rotations and translations add to an energy.

    Parameters
    ----------
    molecule : Molecule
        At a minimum.
    frequencies : sequence of float, cm⁻¹
        Of all its vibrations. What is left of an imaginary one counts as real.
    energy : float, eV
        Of the electrons.
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


def _shape(molecule: Molecule) -> str:
    if molecule.n_atoms == 1:
        return "monatomic"
    linear = count_vibrations(molecule.positions) == molecule.positions.size - 5
    return "linear" if linear else "nonlinear"
