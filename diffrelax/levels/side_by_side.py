"""BFGS relaxations of several molecules at a time, each with its own Hessian."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from math import nan

import numpy as np

from diffrelax.levels.model_hessian import model_hessian
from diffrelax.molecule import Molecule

LONGEST_STEP = 0.2  # Å, per atom
MAX_CALLS = 300  # per molecule
N_PARALLEL = 16  # molecules in a call

Evaluate = Callable[
    [Sequence[Molecule], Sequence[np.ndarray]], tuple[np.ndarray, Sequence[np.ndarray]]
]


def relax_side_by_side(
    molecules: Iterable[Molecule],
    evaluate: Evaluate,
    *,
    fmax: float,
    max_calls: int = MAX_CALLS,
) -> Iterator[Walk]:
    """Relax molecules by BFGS from model Hessians, `N_PARALLEL` at a time.

    When one molecule ends, the next takes its place. Molecules sorted by size waste least.

    Parameters
    ----------
    molecules : iterable of Molecule
    evaluate : callable
        Takes molecules and their positions, returns energies, eV, and forces, eV/Å.
    fmax : float
        Converged when the force on each atom is below this, eV/Å.
    max_calls : int
        Maximum number of calls per molecule.

    Yields
    ------
    Walk
        One for each molecule, in the order in which they end; converged if its ``fmax`` is below
        `fmax`.
    """
    waiting = iter(molecules)
    walks: list[Walk] = []
    while True:
        walks += map(Walk, islice(waiting, N_PARALLEL - len(walks)))
        if not walks:
            return
        energies, forces = evaluate([w.molecule for w in walks], [w.positions for w in walks])
        going = []
        for walk, energy, force in zip(walks, energies, forces, strict=True):
            walk.learn(float(energy), force)
            if walk.fmax >= fmax and walk.n_calls < max_calls:
                walk.move()
                going.append(walk)
            else:
                yield walk
        walks = going


class Walk:
    """Relaxation of one molecule: current geometry, and estimate of the inverse Hessian.

    Attributes
    ----------
    molecule : Molecule
        The molecule before the relaxation.
    positions : (n_atoms, 3) array, Å
    energy : float, eV
    fmax : float, eV/Å
        Largest force on an atom.
    n_calls : int
        Number of energy-and-force calls, including the first.
    """

    def __init__(self, molecule: Molecule) -> None:
        self.molecule = molecule
        self.positions = molecule.positions
        self.energy = self.fmax = nan
        self.n_calls = 0
        self._inverse = np.linalg.inv(model_hessian(molecule.to_atoms()))
        self._step = self._forces = np.zeros_like(molecule.positions)

    def learn(self, energy: float, forces: np.ndarray) -> None:
        """Update the inverse Hessian from the change of the forces over the last step (BFGS)."""
        change, step = (self._forces - forces).ravel(), self._step.ravel()
        curvature = step @ change
        if curvature > 0:
            left = np.eye(len(step)) - np.outer(step, change) / curvature
            self._inverse = left @ self._inverse @ left.T + np.outer(step, step) / curvature
        self._forces, self.energy = forces, energy
        self.fmax = float(np.linalg.norm(forces, axis=1).max())
        self.n_calls += 1

    def move(self) -> None:
        """Take a quasi-Newton step, scaled so that no atom moves more than `LONGEST_STEP`."""
        step = (self._inverse @ self._forces.ravel()).reshape(-1, 3)
        self._step = step * min(1.0, LONGEST_STEP / np.linalg.norm(step, axis=1).max())
        self.positions = self.positions + self._step
