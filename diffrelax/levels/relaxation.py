"""Relaxation of a geometry at a cheap level of theory."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.calculators.calculator import CalculationFailed
from ase.optimize import BFGS
from threadpoolctl import threadpool_limits

from diffrelax.levels.calculators import get_calculator

if TYPE_CHECKING:
    from diffrelax.molecule import Molecule


@dataclass(frozen=True, eq=False)
class LevelRelaxation:
    """A geometry relaxed at a cheap level of theory.

    Parameters
    ----------
    positions : (n_atoms, 3) array, Å
    energy : float
        eV; NaN if no calculation succeeded.
    fmax : float
        Largest force on an atom, eV/Å.
    n_calls : int
        Number of energy-and-force calls; the first counts.
    converged : bool
    reason : str
        Why it did not converge; empty if it did.
    seconds : float
    """

    positions: np.ndarray
    energy: float
    fmax: float
    n_calls: int
    converged: bool
    reason: str
    seconds: float


def relax_at_level(
    molecule: Molecule,
    level: str,
    *,
    fmax: float = 0.03,
    max_steps: int = 500,
    **settings: Any,
) -> LevelRelaxation:
    """Relax a molecule with ASE's BFGS at a level of theory, on one thread.

    More threads do not help molecules of this size, and where the cores are shared they make
    tight binding slower by orders of magnitude (waiting threads spin).

    Parameters
    ----------
    molecule : Molecule
    level : {"mmff94", "uff", "gfn2-xtb"}
    fmax : float
        Converged when no atom feels a larger force, eV/Å.
    max_steps : int
    **settings
        See `get_calculator`.

    Raises
    ------
    ValueError
        If the level is unknown, cannot describe this molecule, or is ``dft`` (for which
        `diffrelax.dft.relax_dft` counts the cost and starts from a Hessian).
    """
    if level == "dft":
        raise ValueError("level 'dft' is relaxed by diffrelax.dft.relax_dft")
    started = perf_counter()
    atoms = molecule.to_atoms()
    atoms.calc = get_calculator(level, molecule, **settings)
    optimizer = BFGS(atoms, logfile=None)
    positions, energy, largest = molecule.positions, np.nan, np.nan
    reason = ""
    try:
        with threadpool_limits(limits=1, user_api="openmp"):
            for _ in optimizer.irun(fmax=fmax, steps=max_steps):
                positions, energy = atoms.positions.copy(), atoms.get_potential_energy()
                largest = float(np.linalg.norm(atoms.get_forces(), axis=1).max())
        if not largest < fmax:
            reason = f"not converged in {max_steps} steps: fmax {largest:.3f} eV/Å"
    except CalculationFailed as error:
        reason = f"{level} failed: {error}"
    return LevelRelaxation(
        positions=positions,
        energy=energy,
        fmax=largest,
        n_calls=optimizer.nsteps + 1,
        converged=not reason,
        reason=reason,
        seconds=perf_counter() - started,
    )
