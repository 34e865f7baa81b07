"""Potentials whose averages are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffrelax.sampling.boltzmann.springs import expanded, reduced

N_ATOMS = 4
D = 3 * N_ATOMS - 3
THERMAL = 0.025  # eV
SQUARE = expanded(1.2 * np.eye(D)[[0]] + 0.9 * np.eye(D)[[4]] + 1.1 * np.eye(D)[[8]])[0]


class Harmonic:
    """A minimum in the space of centred positions, stiff and soft: 10 to 60 eV/Å²."""

    minima = reduced(SQUARE[None])
    stiffness = np.linspace(10, 60, D)

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        return 0.5 * ((reduced(positions) - self.minima[0]) ** 2 * self.stiffness).sum(1)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        spread = np.sqrt(THERMAL / self.stiffness)
        return expanded(self.minima[0] + spread * rng.normal(size=(n, D)))

    @property
    def mean_energy(self) -> float:
        return D / 2 * THERMAL


@dataclass(frozen=True, eq=False)
class DoubleWell:
    """Two minima 0.18 Å apart along one coordinate, the second one lower; harmonic elsewhere."""

    half: float = 0.09  # Å
    barrier: float = 0.03  # eV
    tilt: float = 0.12  # eV/Å
    stiffness: float = 30.0  # eV/Å²

    @property
    def minima(self) -> np.ndarray:
        shift = self.half * np.eye(D)[3]
        return reduced(SQUARE[None]) + np.stack([-shift, shift])

    def profile(self, u: np.ndarray) -> np.ndarray:
        return self.barrier * ((u / self.half) ** 2 - 1) ** 2 - self.tilt * u

    def coordinate(self, positions: np.ndarray) -> np.ndarray:
        return (reduced(positions) - reduced(SQUARE[None]))[:, 3]

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        x = reduced(positions) - reduced(SQUARE[None])
        others = np.delete(x, 3, axis=1)
        return self.profile(x[:, 3]) + 0.5 * self.stiffness * (others**2).sum(1)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        grid = np.linspace(-0.4, 0.4, 20_001)
        cumulated = np.cumsum(np.exp(-self.profile(grid) / THERMAL))
        x = np.sqrt(THERMAL / self.stiffness) * rng.normal(size=(n, D))
        x[:, 3] = np.interp(rng.random(n) * cumulated[-1], cumulated, grid)
        return expanded(x + reduced(SQUARE[None]))

    def _average(self, values: np.ndarray, grid: np.ndarray) -> float:
        weights = np.exp(-self.profile(grid) / THERMAL)
        return float((values * weights).sum() / weights.sum())

    @property
    def mean_energy(self) -> float:
        grid = np.linspace(-0.4, 0.4, 20_001)
        return self._average(self.profile(grid), grid) + (D - 1) / 2 * THERMAL

    @property
    def right(self) -> float:
        """Population of the well on the right."""
        grid = np.linspace(-0.4, 0.4, 20_000)
        return self._average(grid > 0, grid)
