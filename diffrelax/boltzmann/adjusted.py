"""Canonical samples of a molecule: the moves its chains make, and how they are tuned."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ase.units import kB

from diffrelax.boltzmann.chains import Chains, Target
from diffrelax.boltzmann.guide import Guide
from diffrelax.boltzmann.kernels import DenoisingStep, TorsionJump
from diffrelax.boltzmann.rotors import Rotors
from diffrelax.boltzmann.sampler import Mixture, Samples, run, tune
from diffrelax.boltzmann.springs import Springs
from diffrelax.levels import Surface
from diffrelax.models import Model
from diffrelax.molecule import Molecule

TUNING = 600  # steps
THIN = 10  # steps from one draw to the next
ROOM_SIGMA = 0.05  # Å; the denoiser's noise level at 300 K
KEPT = 0.7  # r² of the first denoising steps
JUMPS = 0.4  # share of the steps that are torsion jumps


def sample_adjusted(
    molecule: Molecule,
    starts: np.ndarray,
    surface: Surface,
    model: Model,
    temperature: float,
    n_draws: int,
    rng: np.random.Generator,
    progress: Callable[[], object],
) -> Samples:
    """Draw samples whose distribution is exp(−E/kT) once the chains have converged.

    Parameters
    ----------
    molecule : Molecule
    starts : (n_chains, n_atoms, 3) array, Å
    surface : Surface
    model : Model
    temperature : float, K
    n_draws : int
        Of each chain.
    rng : numpy.random.Generator
    progress : callable
        Called after each of `n_steps` steps.
    """
    guide = Guide(model, molecule, choose_sigma(model, temperature))
    target = Target(surface.energies, kB * temperature)
    chains = Chains.start(starts, surface.energies)
    moves = choose_moves(molecule, guide, target.thermal_energy)
    chains, moves = tune(chains, moves, target, TUNING, rng, progress)
    trajectory = run(chains, moves, target, n_draws, THIN, rng, progress)
    kernels = {
        kernel.name: {"share": share, "step_size": kernel.size}
        for kernel, share in zip(moves.kernels, moves.probabilities, strict=True)
    }
    settings = {"sigma": guide.sigma, "thin": THIN, "tuning": TUNING, "kernels": kernels}
    findings = {"acceptance": trajectory.acceptance, "network_calls": guide.n_calls}
    return Samples(trajectory, settings, findings)


def n_steps(n_draws: int) -> int:
    """Count the steps of a run, tuning included."""
    return TUNING + n_draws * THIN


def choose_sigma(model: Model, temperature: float) -> float:
    """Choose a noise level, Å, about as large as what heat displaces an atom by."""
    known = model.config.denoiser
    wanted = ROOM_SIGMA * (temperature / 300) ** 0.5
    return float(np.clip(wanted, known.sigma_min, known.sigma_max))


def choose_moves(molecule: Molecule, guide: Guide, thermal_energy: float) -> Mixture:
    """Mix denoising steps with torsion jumps, where the molecule has something to turn."""
    springs, rotors = Springs.of(molecule), Rotors.of(molecule)
    denoising = DenoisingStep.shaped(guide, springs, thermal_energy, KEPT**0.5)
    if len(rotors) == 0:
        return Mixture([denoising], [1.0])
    return Mixture([denoising, TorsionJump(rotors)], [1 - JUMPS, JUMPS])
