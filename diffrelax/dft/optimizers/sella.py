"""Relaxation in internal coordinates with Sella."""

from __future__ import annotations

from typing import Any

import ase
import numpy as np

from diffrelax.dft.optimizers.base import HessianOptimizer
from diffrelax.dft.optimizers.trust_radius import TrustRadiusBFGS
from diffrelax.extras import find_extra

find_extra("sella", "sella", "the optimizer sella")

from sella import Sella  # noqa: E402


class SellaMinimiser(HessianOptimizer, Sella):
    """Sella's quasi-Newton optimizer with a trust radius, in internal coordinates.

    Hermes et al. (2022, doi 10.1021/acs.jctc.2c00395). Without a start Hessian Sella guesses one.
    Convergence is judged by the forces on the atoms, not by Sella's projected forces.

    Parameters, attributes and errors are those of
    `diffrelax.dft.optimizers.base.HessianOptimizer`.
    """

    holds = ()

    def __init__(self, atoms: ase.Atoms, *args: Any, **settings: Any) -> None:
        self._begun = False
        super().__init__(atoms, *args, order=0, internal=True, **settings)

    @classmethod
    def softest(cls, fmax: float) -> float:
        """Return the smallest curvature of the start Hessian, eV/Å², see `TrustRadiusBFGS`."""
        return TrustRadiusBFGS.softest(fmax)

    def step(self) -> None:
        """Move the atoms by one step."""
        if not self._begun and (hessian := self.start_hessian()) is not None:
            self.pes.hessian_function = lambda _: hessian
            self.pes.calculate_hessian()
        self._begun = True
        super().step()

    def converged(self, forces: np.ndarray | None = None) -> bool:
        """Whether the largest force on an atom, not projected, is below ``fmax``."""
        super().converged()  # for the log
        return bool(np.linalg.norm(self.atoms.get_forces(), axis=1).max() < self.fmax)
