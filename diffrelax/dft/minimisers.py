"""The optimizers: each moves atoms downhill and says in words how that ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from logging import CRITICAL
from tempfile import TemporaryDirectory
from typing import Any

import ase
import numpy as np
from ase.calculators.calculator import CalculationFailed
from ase.optimize import BFGS
from ase.units import Bohr, Hartree

from diffrelax.dft import trust_radius

# (atoms, start Hessian in eV/Å² or None, fmax in eV/Å, steps) -> reason, empty if converged
Minimiser = Callable[[ase.Atoms, np.ndarray | None, float, int], str]

# geomeTRIC's default thresholds (Wang and Song 2016, doi 10.1063/1.4952956): Eh, Eh/Bohr and Å
GEOMETRIC_THRESHOLDS = {
    "energy": 1e-6,
    "grms": 3e-4,
    "gmax": 4.5e-4,
    "drms": 1.2e-3,
    "dmax": 1.8e-3,
}


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


def tric(atoms: ase.Atoms, hessian: np.ndarray | None, fmax: float, max_steps: int) -> str:
    """Relax in geomeTRIC's translation-rotation-internal coordinates to a largest force.

    Wang and Song (2016, doi 10.1063/1.4952956). Turns about bonds are straight lines in these
    coordinates and do not stretch the bonds beside them. Of 40 validation molecules at GFN2-xTB,
    with Hessians of AIMNet2, to 0.03 eV/Å, this takes 7.0 calls on average from MMFF94 and `bfgs`
    10.6; from ends of the model 3.8 and 4.4.

    Parameters and result are those of `bfgs`, except that without a Hessian geomeTRIC guesses one
    in internal coordinates. A single atom has none and is left to `bfgs`.
    """
    from geometric.ase_engine import EngineASE

    class Converged(Exception):  # noqa: N818
        """Forces are small enough, whatever geomeTRIC thinks of energies and displacements."""

    class UntilConverged(EngineASE):
        def calc_new(self, coords: np.ndarray, dirname: str) -> dict[str, Any]:
            result: dict[str, Any] = super().calc_new(coords, dirname)
            gradient = result["gradient"].reshape(-1, 3) * Hartree / Bohr
            if np.linalg.norm(gradient, axis=1).max() < fmax:
                raise Converged
            return result

    never = GEOMETRIC_THRESHOLDS | {"energy": 0.0}
    try:
        return _run_geometric(UntilConverged, atoms, hessian, fmax, max_steps, never)
    except Converged:
        return ""


def geometric(atoms: ase.Atoms, hessian: np.ndarray | None, fmax: float, max_steps: int) -> str:
    """Relax as `tric` does, but until all five criteria of geomeTRIC are met."""
    from geometric.ase_engine import EngineASE

    return _run_geometric(EngineASE, atoms, hessian, fmax, max_steps, _geometric_thresholds(fmax))


def _run_geometric(
    engine: Callable[..., Any],
    atoms: ase.Atoms,
    hessian: np.ndarray | None,
    fmax: float,
    max_steps: int,
    thresholds: dict[str, float],
) -> str:
    if len(atoms) == 1:
        return bfgs(atoms, hessian, fmax, max_steps)
    from geometric.errors import Error, GeomOptNotConvergedError
    from geometric.internal import DelocalizedInternalCoordinates
    from geometric.molecule import Molecule
    from geometric.optimize import Optimize, OptParams

    limits = {f"convergence_{name}": limit for name, limit in thresholds.items()}
    curvature: dict[str, Any] = {}
    if hessian is not None:
        curvature = {"hess_data": (hessian * Bohr**2 / Hartree).tolist(), "frequency": False}
    with _silent_geometric(), TemporaryDirectory() as folder:
        system = Molecule()
        system.elem = atoms.get_chemical_symbols()
        system.xyzs = [atoms.positions.copy()]
        try:
            coordinates = DelocalizedInternalCoordinates(
                system, build=True, connect=False, addcart=False
            )
            Optimize(
                atoms.positions.ravel() / Bohr,
                system,
                coordinates,
                engine(system, atoms.calc),
                folder,
                OptParams(maxiter=max_steps, **limits, **curvature),
            )
        except GeomOptNotConvergedError:
            return f"not converged in {max_steps} steps"
        except CalculationFailed:
            raise
        except (Error, RuntimeError, np.linalg.LinAlgError) as error:
            return f"geomeTRIC gave up: {error}"
    return ""


def sella(atoms: ase.Atoms, hessian: np.ndarray | None, fmax: float, max_steps: int) -> str:
    """Relax with Sella's trust-radius quasi-Newton in internal coordinates.

    Hermes et al. (2022, doi 10.1021/acs.jctc.2c00395). Parameters and result are those of `bfgs`,
    except that without a Hessian Sella guesses one in internal coordinates. A single atom has none
    and is left to `bfgs`.
    """
    if len(atoms) == 1:
        return bfgs(atoms, hessian, fmax, max_steps)
    from sella import Sella

    curvature = None if hessian is None else lambda _: hessian
    try:
        optimizer = Sella(atoms, order=0, internal=True, logfile=None, hessian_function=curvature)
        if curvature:
            optimizer.pes.calculate_hessian()
        converged = optimizer.run(fmax=fmax, steps=max_steps)
    except CalculationFailed:
        raise
    except (RuntimeError, ValueError, np.linalg.LinAlgError) as error:
        return f"Sella gave up: {error}"
    if not converged:
        return f"not converged in {max_steps} steps"
    largest = np.linalg.norm(atoms.get_forces(), axis=1).max()
    return "" if largest < fmax else f"Sella stopped at {largest:.3f} eV/Å, above {fmax:g}"


def check_optimizer(optimizer: str) -> None:
    """Find out whether an optimizer is installed.

    Raises
    ------
    ValueError
        If it is not.
    """
    if optimizer == "sella" and not find_spec("sella"):
        raise ValueError('the optimizer sella is not installed: pip install "diffrelax[sella]"')


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
    limits = _geometric_thresholds(fmax)
    return (
        f"geomeTRIC: energy change < {limits['energy']:.2g} Eh, "
        f"rms and largest gradient < {limits['grms']:.2g} and {limits['gmax']:.2g} Eh/Bohr, "
        f"rms and largest displacement < {limits['drms']:.2g} and {limits['dmax']:.2g} Å"
    )


def _geometric_thresholds(fmax: float) -> dict[str, float]:
    largest = fmax * Bohr / Hartree
    default = GEOMETRIC_THRESHOLDS
    return default | {
        "gmax": min(default["gmax"], largest),
        "grms": min(default["grms"], largest * default["grms"] / default["gmax"]),
    }


@contextmanager
def _silent_geometric() -> Iterator[None]:
    from geometric.nifty import logger

    level = logger.level
    logger.setLevel(CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
