"""Boltzmann weights."""

from __future__ import annotations

import math

import numpy as np
from ase.units import kB

from diffrelax.errors import InputError


def boltzmann_weights(
    energies: np.ndarray, temperature: float, degeneracies: np.ndarray | float = 1.0
) -> np.ndarray:
    """Return weights proportional to g exp(−E/kT) with the sum 1.

    Parameters
    ----------
    energies : (n,) array, eV
    temperature : float, K
    degeneracies : (n,) array or float
        g, not negative.

    Raises
    ------
    ValueError
        If the temperature is not positive.
    """
    exponents = -np.asarray(energies) / (kB * check_temperature(temperature))
    factors = degeneracies * np.exp(exponents - exponents.max())
    return factors / factors.sum()


def check_temperature(temperature: float) -> float:
    """Return a temperature in K, or raise ValueError if it is not positive and finite."""
    if not 0 < temperature < math.inf:
        raise InputError(f"temperature {temperature} K: give a positive number of kelvin")
    return temperature
