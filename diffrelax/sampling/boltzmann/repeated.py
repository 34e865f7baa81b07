"""Repeated denoising at a fixed noise level (Rothchild et al. 2024), and how hot its samples are.

The samples look like a Boltzmann distribution with T = c σ², but they have no one temperature:
stiff and soft coordinates get noise of the same size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Self

import numpy as np
from ase.units import kB

from diffrelax.dft.hessian import count_vibrations
from diffrelax.errors import InputError
from diffrelax.levels import Surface
from diffrelax.molecule import Molecule
from diffrelax.sampling.boltzmann.chains import Chains, Energy
from diffrelax.sampling.boltzmann.guide import Guide
from diffrelax.sampling.boltzmann.kernels import DenoisingStep, Estimate
from diffrelax.sampling.boltzmann.mixtures import Draws, Samples, Task, keep
from diffrelax.sampling.boltzmann.springs import Springs

RATIO = 0.9  # of the noise levels after and before a step; the calibration depends on it
PILOT_SIGMAS = (0.02, 0.03, 0.04, 0.05)  # Å
PILOT_DRAWS = 20
THIN = 10  # steps from one draw to the next
RIGID = 1e-2  # eV/Å²; eigenvalues of a Hessian below it are turns


class NoEnergy(RuntimeError):  # noqa: N818
    """The level has no energy for a geometry that was denoised."""


@dataclass(frozen=True)
class TemperatureFit:
    """The fit of mean energies by E = E₀ + f/2 · k c σ², f being the number of vibrations.

    Parameters
    ----------
    c : float, K/Å²
        Temperature for the square of the noise level.
    lowest : float, eV
        E₀, the mean energy without noise.
    r_squared : float
        Share of the variance of the mean energies that the fit explains.
    """

    c: float
    lowest: float
    r_squared: float

    def sigma(self, temperature: float) -> float:
        """Return the noise level, Å, of a temperature, K.

        Raises
        ------
        ValueError
            If mean energies do not rise with the noise level.
        """
        if not self.c > 0:
            raise InputError(f"mean energies do not rise with the noise level (c = {self.c} K/Å²)")
        return (temperature / self.c) ** 0.5

    @classmethod
    def fit(cls, sigmas: Sequence[float], mean_energies: Sequence[float], n_modes: int) -> Self:
        """Fit mean energies, eV, of so many vibrations at noise levels, Å, by least squares."""
        squares, energies = np.square(sigmas), np.asarray(mean_energies)
        slope, lowest = np.polyfit(squares, energies, 1)
        left = energies - lowest - slope * squares
        return cls(
            c=float(2 * slope / (n_modes * kB)),
            lowest=float(lowest),
            r_squared=float(1 - left.var() / energies.var()),
        )


def sample_repeated(task: Task) -> Samples:
    """Draw samples with the mean energy of a temperature, which are not canonical.

    The noise level is that of T = c σ², calibrated on the molecule itself by `fit_temperature`.

    Raises
    ------
    ValueError
        If there is no model, or no noise level that it knows has the temperature.
    NoEnergy
        If the level has no energy for a geometry that was denoised.
    """
    name = task.molecule.name
    if task.model is None:
        raise InputError(f"{name}: repeated denoising needs the denoiser of a model: give one")
    energies, rng, progress = task.surface.energies, task.rng, task.progress
    guides = {sigma: Guide(task.model, task.molecule, sigma) for sigma in PILOT_SIGMAS}
    fit = fit_temperature(task.chains, guides, energies, rng, progress)
    try:
        guide = Guide(task.model, task.molecule, fit.sigma(task.temperature))
    except ValueError as error:
        raise InputError(
            f"{name}: {task.temperature:g} K cannot be reached by repeated denoising, use "
            f"the method adjusted: {error}"
        ) from error
    states = denoised(task.chains, guide, guide.sigma, energies, THIN, rng, progress)
    draws = Draws.of(keep(islice(states, task.n_draws), thin=1), {})
    kinds = temperatures_of_kinds(task.molecule, task.chains.positions, draws.positions)
    settings = {"sigma": guide.sigma, "ratio": RATIO, "thin": THIN}
    findings = {
        "calibration": asdict(fit),
        "temperatures_of_kinds": kinds,
        "network_calls": guide.n_calls + sum(pilot.n_calls for pilot in guides.values()),
    }
    return Samples(draws, settings, findings)


def n_steps(n_draws: int) -> int:
    """Count the steps of a run, calibration included."""
    return (len(PILOT_SIGMAS) * PILOT_DRAWS + n_draws) * THIN


def fit_temperature(
    chains: Chains,
    estimates: Mapping[float, Estimate],
    energy: Energy,
    rng: np.random.Generator,
    progress: Callable[[], object] = lambda: None,
) -> TemperatureFit:
    """Calibrate T = c σ² by short runs from the same chains at several noise levels.

    Parameters
    ----------
    chains : Chains
    estimates : mapping from float to callable
        The denoiser at each noise level, Å.
    energy : callable
    rng : numpy.random.Generator
    """
    means = [
        repeat(chains, estimate, sigma, energy, PILOT_DRAWS, THIN, rng, progress)
        .energies[1:]
        .mean()
        for sigma, estimate in estimates.items()
    ]
    return TemperatureFit.fit(list(estimates), means, count_vibrations(chains.positions[0]))


def repeat(
    chains: Chains,
    estimate: Estimate,
    sigma: float,
    energy: Energy,
    n_draws: int,
    thin: int,
    rng: np.random.Generator,
    progress: Callable[[], object] = lambda: None,
) -> Draws:
    """Keep the first states of `denoised`."""
    states = denoised(chains, estimate, sigma, energy, thin, rng, progress)
    return Draws.of(list(islice(states, n_draws)), {})


def denoised(
    chains: Chains,
    estimate: Estimate,
    sigma: float,
    energy: Energy,
    thin: int,
    rng: np.random.Generator,
    progress: Callable[[], object],
) -> Iterator[Chains]:
    """Denoise from σ to 0.9 σ with new noise, again and again; yield every ``thin``-th state.

    Energies are evaluated for these only. The network's answer for a step is used for that step
    only.
    """
    kernel = DenoisingStep.posterior(estimate, sigma, RATIO)
    while True:
        for _ in range(thin):
            proposal = kernel.propose(chains, rng)
            chains = replace(chains, positions=proposal.positions, estimates=proposal.new_estimates)
            progress()
        chains = replace(chains, energies=energy(chains.positions))
        if not np.isfinite(chains.energies).all():
            raise NoEnergy(
                f"the level has no energy for a geometry that was denoised at {sigma:.3f} "
                "Å: use another level, or the method adjusted, which rejects such "
                "geometries"
            )
        yield chains


def temperatures_of_kinds(
    molecule: Molecule, starts: np.ndarray, positions: np.ndarray
) -> dict[str, float]:
    """Compare how far bonds, angles and torsions fluctuate with what MMFF94 allows at 1 K.

    A distance of slope J at a minimum with the Hessian H has the variance kT J H⁻¹ Jᵀ. Bonds are
    judged by the distances of bonded atoms, angles by those of atoms bonded to a common third, and
    torsions by those of atoms three bonds apart; each is the median over chains and distances.

    Parameters
    ----------
    molecule : Molecule
    starts : (n_chains, n_atoms, 3) array, Å
        Minima of MMFF94, about which the chains fluctuate.
    positions : (n_draws, n_chains, n_atoms, 3) array, Å

    Returns
    -------
    dict of str to float, K
        Empty if MMFF94 does not cover the molecule.
    """
    try:
        surface = Surface(molecule, "mmff94")
    except ValueError:
        return {}
    springs = Springs.of(molecule)
    i, j = springs.pairs.T
    distances = np.linalg.norm(positions[..., i, :] - positions[..., j, :], axis=-1)
    slopes = springs.slopes(starts)
    ratios = []
    for start, slope, variance in zip(starts, slopes, distances.var(axis=0), strict=True):
        values, modes = np.linalg.eigh(surface.hessian(start))
        spread = ((slope @ modes)[:, values > RIGID] ** 2 / values[values > RIGID]).sum(1)
        ratios.append(variance / (kB * spread))
    return {
        kind: float(np.median(np.array(ratios)[:, springs.n_bonds == n]))
        for n, kind in enumerate(("bonds", "angles", "torsions"), 1)
        if (springs.n_bonds == n).any()
    }
