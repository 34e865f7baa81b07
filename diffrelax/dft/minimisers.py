"""The optimizers: each moves atoms downhill and says in words how that ended."""

from __future__ import annotations

from collections.abc import Callable

import ase
import numpy as np
from ase.calculators.calculator import CalculationFailed
from ase.optimize import BFGS

from diffrelax.dft import trust_radius
from diffrelax.dft.internal import geometric_thresholds

# (atoms, start Hessian in eV/Å² or None, fmax in eV/Å, steps) -> reason, empty if converged
Minimiser = Callable[[ase.Atoms, np.ndarray | None, float, int], str]


def bfgs(atoms: ase.Atoms, hessian: np.ndarray | None, fmax: float, max_steps: int) -> str:
    """Relax with BFGS: from a Hessian with a trust radius in its metric, without one as ASE does.

    Parameters
    ----------
    atoms : ase.Atoms
        With a calculator; moved in place.
    hessian : (3 n_atoms, 3 n_atoms) array, eV/Å², or None
        Start Hessian, positive definite. None: 70 eV/Å² times the unit matrix.
    fmax : float
        eV/Å.
    max_steps : int

    Returns
    -------
    str
        Why it did not converge; empty if it did.
    """
    if hessian is None:
        converged = BFGS(atoms, logfile=None).run(fmax=fmax, steps=max_steps)
    else:
        try:
            converged = trust_radius.minimise(atoms, hessian, fmax, max_steps)
        except (ValueError, np.linalg.LinAlgError) as error:
            return f"BFGS gave up: {error}"
    return "" if converged else f"not converged in {max_steps} steps"


def sella(atoms: ase.Atoms, hessian: np.ndarray | None, fmax: float, max_steps: int) -> str:
    """Relax with Sella's trust-radius quasi-Newton in internal coordinates.

    Hermes et al. (2022, doi 10.1021/acs.jctc.2c00395). Parameters and result are those of `bfgs`,
    except that without a Hessian Sella guesses one in internal coordinates, and that there are two
    atoms at least.
    """
    from sella import Sella

    curvature = None if hessian is None else lambda _: hessian
    try:
        optimizer = Sella(atoms, order=0, internal=True, logfile=None, hessian_function=curvature)
        if curvature:
            optimizer.pes.calculate_hessian()
        for goal in (fmax, 0.8 * fmax, 0.5 * fmax):  # of forces that Sella has projected
            if not optimizer.run(fmax=goal, steps=max_steps - optimizer.nsteps):
                return f"not converged in {max_steps} steps"
            largest = np.linalg.norm(atoms.get_forces(), axis=1).max()
            if largest < fmax:
                return ""
    except CalculationFailed:
        raise
    except (RuntimeError, ValueError, np.linalg.LinAlgError) as error:
        return f"Sella gave up: {error}"
    return f"Sella stopped at {largest:.4f} eV/Å, above {fmax:g}"


def criterion(optimizer: str, fmax: float) -> str:
    """Say in words when an optimizer stops.

    Parameters
    ----------
    optimizer : {"tric", "bfgs", "geometric", "sella"}
    fmax : float
        eV/Å.
    """
    if optimizer != "geometric":
        return f"largest force on an atom < {fmax:g} eV/Å"
    limits = geometric_thresholds(fmax)
    return (
        f"geomeTRIC: energy change < {limits['energy']:.2g} Eh, "
        f"rms and largest gradient < {limits['grms']:.2g} and {limits['gmax']:.2g} Eh/Bohr, "
        f"rms and largest displacement < {limits['drms']:.2g} and {limits['dmax']:.2g} Å"
    )
