"""Relaxation of a geometry at a cheap level of theory."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np

from diffrelax.clock import Time
from diffrelax.levels.calculators import check_cheap, get_calculator
from diffrelax.molecule.identity import identity_change

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
    n_calls : int or None
        Number of energy-and-force calls, including the first. None if it is unknown: for MMFF94
        and UFF, and if the level failed.
    reason : str
        Why it did not converge; empty if it did.
    time : Time
    """

    positions: np.ndarray
    energy: float
    fmax: float
    n_calls: int | None
    reason: str
    time: Time

    @property
    def seconds(self) -> float:
        """Wall time, s."""
        return self.time.wall

    @property
    def converged(self) -> bool:
        """Whether the forces are below the threshold and the molecule is still the same."""
        return not self.reason


def relax_at_level(
    molecule: Molecule,
    level: str,
    *,
    fmax: float = 0.03,
    max_steps: int = 500,
    **settings: Any,
) -> LevelRelaxation:
    """Relax a molecule at a cheap level of theory.

    MMFF94 and UFF use RDKit's minimiser, GFN-FF that of the program xtb, and the other levels BFGS
    from a model Hessian (see `diffrelax.levels.model_hessian`). With ``program="xtb"``, GFN2-xTB
    also uses the minimiser of that program.

    Parameters
    ----------
    molecule : Molecule
    level : str
        See `get_calculator`.
    fmax : float
        Converged when the force on each atom is below this, eV/Å.
    max_steps : int
    **settings
        See `get_calculator`.

    Raises
    ------
    ValueError
        If the level is unknown, not installed, cannot describe this molecule, or is ``dft``, which
        has its own function, `diffrelax.dft.relax_dft`.
    """
    check_cheap(level)
    started = Time.now()
    calculator = get_calculator(level, molecule, **settings)
    atoms = molecule.to_atoms()
    atoms.calc = calculator
    n_calls: int | None = None
    try:
        atoms.positions, n_calls = calculator.minimise(molecule, fmax, max_steps)
        energy = atoms.get_potential_energy()
        largest = float(np.linalg.norm(atoms.get_forces(), axis=1).max())
        work = f"{n_calls} calls" if n_calls else f"at most {max_steps} steps"
        reason = why_not(molecule, atoms.positions, largest, fmax, work)
    except (RuntimeError, ArithmeticError, ValueError) as error:
        energy, largest, reason = nan, nan, f"{level} failed: {error}"
    return LevelRelaxation(
        positions=atoms.positions.copy(),
        energy=energy,
        fmax=largest,
        n_calls=n_calls,
        reason=reason,
        time=Time.now() - started,
    )


def why_not(
    molecule: Molecule, positions: np.ndarray, largest: float, fmax: float, work: str
) -> str:
    """Return why a relaxed geometry is not a minimum of the same molecule; empty if it is.

    Parameters
    ----------
    molecule : Molecule
        Molecule before the relaxation.
    positions : (n_atoms, 3) array, Å
        Relaxed geometry.
    largest, fmax : float, eV/Å
        Largest force on an atom, and the threshold that it must be below.
    work : str
        Work done, such as ``"20 calls"``, for the message.
    """
    if not largest < fmax:
        return f"fmax {largest:.3f} eV/Å after {work}"
    change = identity_change(molecule, positions)
    return f"identity lost: {change}" if change else ""
