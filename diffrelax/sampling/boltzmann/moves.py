"""The moves that the chains of a molecule make, and how they are tuned."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from diffrelax.molecule import Molecule
from diffrelax.molecule.torsions import Rotors
from diffrelax.sampling.boltzmann.chains import Chains, Kernel, Target
from diffrelax.sampling.boltzmann.kernels import ShapedStep, TorsionJump
from diffrelax.sampling.boltzmann.mixtures import Mixture, tune
from diffrelax.sampling.boltzmann.springs import Springs
from diffrelax.sampling.boltzmann.surrogate import Recorded, Surrogate, SurrogateWalk
from diffrelax.sampling.boltzmann.wells import WellJump, Wells

TUNING = 300  # steps
REFINEMENTS, REFINING = 3, 20  # fits of the surrogate, and steps after each
WIDTH = 0.7  # of the first shaped steps
JUMPS = 0.4  # share of jumps, where there is no surrogate
PREFERRED = 3.0  # times as many jumps between wells as turns
WALKS = 0.7  # share of the walks on the surrogate, where there is one
WALK = 50  # steps of a walk
WALK_TUNING = 100  # steps


def tune_moves(
    molecule: Molecule,
    chains: Chains,
    target: Target,
    wells: Wells | None,
    rng: np.random.Generator,
    progress: Callable[[], object],
) -> tuple[Chains, Mixture]:
    """Tune step sizes, and fit a surrogate to the energies of these steps.

    There are jumps between wells if there are two or more.

    Returns
    -------
    Chains
        Where they stand after `n_steps` steps.
    Mixture
        Of moves to keep.
    """
    thermal_energy = target.thermal_energy
    known = Recorded(target.energy, [chains.positions], [chains.energies])
    target = Target(known, thermal_energy)
    moves = choose_moves(molecule, wells, thermal_energy)
    chains, moves = tune(chains, moves, target, TUNING, rng, progress)
    for _ in range(REFINEMENTS):
        walk = choose_walk(molecule, known, chains, wells, thermal_energy, rng)
        chains, _ = tune(chains, Mixture([walk], [1.0]), target, REFINING, rng, progress)
    shares = [WALKS, *((1 - WALKS) * share for share in moves.probabilities)]
    return chains, Mixture([walk, *moves.kernels], shares)


def n_steps() -> int:
    """Count the steps of `tune_moves`."""
    return TUNING + REFINEMENTS * REFINING


def choose_moves(molecule: Molecule, wells: Wells | None, thermal_energy: float) -> Mixture:
    """Mix small steps with jumps: turns of what can turn, and those between wells."""
    small, rotors = ShapedStep(Springs.of(molecule), thermal_energy, WIDTH), Rotors.of(molecule)
    jumps: dict[Kernel, float] = {TorsionJump(rotors): 1.0} if len(rotors) else {}
    if wells and len(wells) > 1:
        jumps[WellJump(wells)] = PREFERRED
    share, total = (JUMPS if jumps else 0.0), sum(jumps.values())
    return Mixture([small, *jumps], [1 - share, *(share * w / total for w in jumps.values())])


def choose_walk(
    molecule: Molecule,
    known: Recorded,
    chains: Chains,
    wells: Wells | None,
    thermal_energy: float,
    rng: np.random.Generator,
) -> SurrogateWalk:
    """Fit a surrogate to the energies that are known, and tune a walk on it."""
    surrogate = Target(Surrogate.fit(molecule, known, thermal_energy), thermal_energy)
    moves = choose_moves(molecule, wells, thermal_energy)
    walkers = Chains.start(chains.positions, surrogate.energy)
    _, moves = tune(walkers, moves, surrogate, WALK_TUNING, rng, progress=lambda: None)
    return SurrogateWalk(surrogate, moves, WALK)
