"""Trajectories of generation, by noise level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Trajectory of one generated molecule.

    If another model relaxes the molecule, the trajectory ends before that, and before the final
    choice of elements.

    Parameters
    ----------
    levels : (n_levels,) array, Å
        Falling noise levels of the model that generates.
    numbers : (n_levels, n_atoms) array
        Most probable elements at each level.
    positions : (n_levels, n_atoms, 3) array, Å
        Noisy positions.
    estimates : (n_levels, n_atoms, 3) array, Å
        Estimates of the final positions.
    """

    levels: np.ndarray
    numbers: np.ndarray
    positions: np.ndarray
    estimates: np.ndarray


class TrajectoryRecorder:
    """Records a batch at each level; after a restart, only the last attempt is kept."""

    def __init__(
        self, levels: Sequence[float], sizes: torch.Tensor, elements: tuple[int, ...], bar: tqdm
    ) -> None:
        shape = len(levels), len(sizes), int(sizes.max())
        self._levels = levels
        self._elements = np.array(elements)
        self._bar = bar
        self._counted = np.zeros(shape[:2], dtype=bool)
        self._numbers = np.zeros(shape, dtype=int)
        self._positions, self._estimates = np.zeros((2, *shape, 3), dtype=np.float32)

    def count(self, level: float, which: torch.Tensor, *_: torch.Tensor) -> None:
        """Advance the progress bar by molecules that reach a level for the first time."""
        place = self._levels.index(level), which.cpu().numpy()
        self._bar.update(int((~self._counted[place]).sum()))
        self._counted[place] = True

    def keep(self, level: float, which: torch.Tensor, *state: torch.Tensor) -> None:
        """Keep positions, estimates and probabilities of elements of some molecules at a level."""
        self.count(level, which)
        place = self._levels.index(level), which.cpu().numpy()
        positions, estimates, probabilities = (tensor.cpu().numpy() for tensor in state)
        self._numbers[place] = self._elements[probabilities.argmax(-1)]
        self._positions[place], self._estimates[place] = positions, estimates

    def trajectory(self, molecule: int, size: int) -> Trajectory:
        """Return the trajectory of one molecule with this number of atoms."""
        arrays = (self._numbers, self._positions, self._estimates)
        return Trajectory(np.array(self._levels), *(a[:, molecule, :size] for a in arrays))
