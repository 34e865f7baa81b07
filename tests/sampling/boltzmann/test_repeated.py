from __future__ import annotations

import numpy as np
import pytest
from ase.units import kB

from diffrelax.levels import Surface
from diffrelax.molecule import Molecule
from diffrelax.sampling.boltzmann.chains import Chains
from diffrelax.sampling.boltzmann.repeated import TemperatureFit, repeat, temperatures_of_kinds
from diffrelax.sampling.boltzmann.springs import expanded

from .toys import Harmonic, exact_denoiser


def test_calibration_recovers_a_known_temperature():
    sigmas = np.array([0.02, 0.03, 0.05])
    energies = 1.0 + 0.5 * (3 * 10 - 6) * kB * 2e5 * sigmas**2
    found = TemperatureFit.fit(sigmas, energies, n_modes=24)
    assert found.c == pytest.approx(2e5)
    assert found.lowest == pytest.approx(1.0)
    assert found.r_squared == pytest.approx(1.0)
    bent = TemperatureFit.fit(sigmas, 1.0 + sigmas**4, n_modes=24)
    assert bent.r_squared < 0.99


def test_repeated_denoising_of_a_harmonic_well_has_the_spread_of_its_steps():
    toy, sigma, r = Harmonic(), 0.05, 0.9
    rng = np.random.default_rng(0)
    chains = Chains.start(expanded(np.repeat(toy.minima, 500, axis=0)), toy)
    asked = []

    def estimate(positions):
        asked.append(len(positions))
        return exact_denoiser(toy.minima, sigma)(positions)

    path = repeat(chains, estimate, sigma, toy, 20, 10, rng, progress=lambda: None)
    expected = 0.5 * r**2 * sigma**2 / (1 + r**2) * toy.stiffness.sum()
    late = path.energies[10:]
    assert late.mean() == pytest.approx(expected, abs=5 * late.std() / np.sqrt(late.size))
    assert sum(asked) == 500 * (20 * 10 + 1)  # one evaluation a step


def test_harmonic_samples_have_their_temperature_in_every_kind_of_coordinate():
    molecule = Molecule.from_smiles("CCO")
    minimum = molecule.positions - molecule.positions.mean(0)
    values, modes = np.linalg.eigh(Surface(molecule, "mmff94").hessian(minimum))
    real = values > 0.01
    assert real.sum() == 3 * 9 - 6
    rng = np.random.default_rng(0)
    amplitudes = np.sqrt(kB * 20 / values[real]) * rng.normal(size=(4000, real.sum()))
    samples = (minimum + expanded(amplitudes @ modes[:, real].T))[:, None]
    found = temperatures_of_kinds(molecule, minimum[None], samples)
    assert list(found) == ["bonds", "angles", "torsions"]
    assert list(found.values()) == pytest.approx([20, 20, 20], rel=0.1)
