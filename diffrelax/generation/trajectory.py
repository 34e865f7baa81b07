"""How molecules come out of noise, level by level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm


@dataclass(frozen=True, eq=False)
class Trajectory:
    """How a molecule came out of noise.

    Where another model relaxes it, it ends at the level at which that takes over, before elements
    are chosen: they and the positions of the molecule may be others.

    Parameters
    ----------
    levels : (n_levels,) array, Å
        Falling noise levels of the model that generates.
    numbers : (n_levels, n_atoms) array
        Most probable elements at each level.
    positions : (n_levels, n_atoms, 3) array, Å
        Noisy positions.
    estimates : (n_levels, n_atoms, 3) array, Å
        What the model expects the end to be.
    """

    levels: np.ndarray
    numbers: np.ndarray
    positions: np.ndarray
    estimates: np.ndarray


class TrajectoryRecorder:
    """What has been seen of a batch at each level; where a molecule went back, the last of it."""

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
        """Move the bar on by the molecules that come to a level for the first time."""
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
        """Return that of one molecule, which has so many atoms."""
        arrays = (self._numbers, self._positions, self._estimates)
        return Trajectory(np.array(self._levels), *(a[:, molecule, :size] for a in arrays))
