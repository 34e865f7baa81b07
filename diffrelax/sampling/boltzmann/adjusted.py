"""Canonical samples of a molecule: the moves its chains make, and how they are tuned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from ase.units import kB

from diffrelax.clock import Time
from diffrelax.models.release import Model
from diffrelax.molecule import Molecule
from diffrelax.molecule.torsions import Rotors
from diffrelax.sampling.boltzmann.chains import Chains, Target
from diffrelax.sampling.boltzmann.guide import Guide
from diffrelax.sampling.boltzmann.kernels import DenoisingStep, Estimate, TorsionJump
from diffrelax.sampling.boltzmann.mixtures import Mixture, Samples, Task, run, tune
from diffrelax.sampling.boltzmann.springs import Springs
from diffrelax.sampling.boltzmann.surrogate import Recorded, Surrogate, SurrogateWalk

TUNING = 300  # steps
REFINEMENTS, REFINING = 3, 20  # fits of the surrogate, and steps after each
THIN = 4  # steps from one draw to the next
ROOM_SIGMA = 0.05  # Å; the denoiser's noise level at 300 K
KEPT = 0.7  # r² of the first denoising steps
JUMPS = 0.4  # share of torsion jumps, where there is no surrogate
WALKS = 0.7  # share of the walks on the surrogate, where there is one
WALK = 50  # steps of a walk
WALK_TUNING = 100  # steps


def sample_adjusted(task: Task) -> Samples:
    """Draw samples whose distribution is exp(−E/kT) once the chains have converged."""
    begun = Time.now()
    molecule, surface, rng, progress = task.molecule, task.surface, task.rng, task.progress
    guide: Guide | None = None
    if task.model:
        guide = Guide(task.model, molecule, choose_sigma(task.model, task.temperature))
    chains = task.chains
    known = Recorded(surface.energies, [chains.positions], [chains.energies])
    target = Target(known, kB * task.temperature)
    moves = choose_moves(molecule, guide, target.thermal_energy)
    chains, moves = tune(chains, moves, target, TUNING, rng, progress)
    for _ in range(REFINEMENTS):
        walk = choose_walk(molecule, known, chains, target.thermal_energy, rng)
        chains, _ = tune(chains, Mixture([walk], [1.0]), target, REFINING, rng, progress)
    moves = Mixture(
        [walk, *moves.kernels], [WALKS, *((1 - WALKS) * share for share in moves.probabilities)]
    )
    time = Time.now() - begun
    tuning = {
        "energy_calls": surface.n_calls,
        "network_calls": _calls(guide),
        "seconds": time.wall,
        "processor_seconds": time.processor,
    }
    frozen = Target(surface.energies, target.thermal_energy)
    draws = run(chains, moves, frozen, task.n_draws, THIN, rng, progress)
    kernels = {
        kernel.name: {"share": share, "step_size": kernel.size}
        for kernel, share in zip(moves.kernels, moves.probabilities, strict=True)
    }
    settings = {"thin": THIN, "tuning": n_steps(0), "kernels": kernels}
    if guide:
        settings["sigma"] = guide.sigma
    findings = {
        "acceptance": draws.acceptance,
        "network_calls": _calls(guide),
        "tuning": tuning,
    }
    return Samples(draws, settings, findings)


def n_steps(n_draws: int) -> int:
    """Count the steps of a run, tuning included."""
    return TUNING + REFINEMENTS * REFINING + n_draws * THIN


def choose_sigma(model: Model, temperature: float) -> float:
    """Choose a noise level, Å, about as large as what heat displaces an atom by."""
    known = model.config.denoiser
    wanted = ROOM_SIGMA * (temperature / 300) ** 0.5
    return float(np.clip(wanted, known.sigma_min, known.sigma_max))


def unmoved(positions: np.ndarray) -> np.ndarray:
    """Take geometries for their own estimates: steps are then shaped by the springs alone."""
    return positions


def choose_moves(molecule: Molecule, guide: Estimate | None, thermal_energy: float) -> Mixture:
    """Mix small steps with torsion jumps, where the molecule has something to turn."""
    springs, rotors = Springs.of(molecule), Rotors.of(molecule)
    small = DenoisingStep.shaped(guide or unmoved, springs, thermal_energy, KEPT**0.5)
    if not guide:
        small = replace(small, name="shaped step")
    if len(rotors) == 0:
        return Mixture([small], [1.0])
    return Mixture([small, TorsionJump(rotors)], [1 - JUMPS, JUMPS])


def choose_walk(
    molecule: Molecule,
    known: Recorded,
    chains: Chains,
    thermal_energy: float,
    rng: np.random.Generator,
) -> SurrogateWalk:
    """Fit a surrogate to the energies that are known, and tune a walk on it.

    The walk has no denoiser; its moves are otherwise those of `choose_moves`.
    """
    surrogate = Target(Surrogate.fit(molecule, known, thermal_energy), thermal_energy)
    moves = choose_moves(molecule, None, thermal_energy)
    walkers = Chains.start(chains.positions, surrogate.energy)
    _, moves = tune(walkers, moves, surrogate, WALK_TUNING, rng, progress=lambda: None)
    return SurrogateWalk(surrogate, moves, WALK)


def _calls(guide: Guide | None) -> int:
    return guide.n_calls if guide else 0
