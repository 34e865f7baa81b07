"""Minimisation, and continuation from saddle points to minima."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ase.calculators.calculator import CalculationFailed

from diffrelax.clock import NO_TIME, Time
from diffrelax.dft.cheap_hessian import hessian_at
from diffrelax.dft.hessian import positive_hessian
from diffrelax.dft.minimum import Curvature, look, push_off
from diffrelax.dft.optimizers import find_optimizer
from diffrelax.dft.recorder import Checker, Foreseen, Recorder
from diffrelax.dft.settings import DFTSettings
from diffrelax.levels.running import KilledError
from diffrelax.molecule.identity import identity_change

if TYPE_CHECKING:
    import numpy as np

    from diffrelax.molecule import Molecule

DESCENTS = 3  # from saddle points


class Ending(NamedTuple):
    """End of a relaxation: the reason if it failed, and the result of the check of the minimum."""

    reason: str
    curvature: Curvature | None = None
    notes: tuple[str, ...] = ()
    time: Time = NO_TIME


def minimise(
    recorder: Recorder, molecule: Molecule, hessian: np.ndarray | None, settings: DFTSettings
) -> str:
    """Relax a molecule with the optimizer of the settings; return the reason if it fails, or "".

    The molecule may differ from that of the recorder in its geometry; the end is compared with the
    molecule of the recorder.
    """
    atoms = molecule.to_atoms()
    atoms.calc = recorder
    # a single atom has no internal coordinates
    kind = find_optimizer(settings.optimizer if molecule.n_atoms > 1 else "bfgs")
    optimizer = kind(atoms, logfile=None, hessian="none" if hessian is None else hessian)
    try:
        converged = optimizer.run(fmax=settings.fmax, steps=settings.max_steps)
    except Foreseen:
        return ""
    except (RuntimeError, ValueError, ArithmeticError) as error:
        if error is recorder.error or isinstance(error, KilledError):
            raise
        if isinstance(error, CalculationFailed):
            return f"gradient call {len(recorder.calls) + 1} failed: {error}"
        return f"the optimizer {settings.optimizer} failed: {error}"
    calls = recorder.calls
    if not converged:
        lower = calls[-1].energy > min(call.energy for call in calls)
        more = "; an earlier geometry has a lower energy than the last" if lower else ""
        return f"not converged in {settings.max_steps} steps{more}"
    if change := identity_change(recorder.molecule, calls[-1].molecule.positions):
        return f"identity lost: {change}"
    return ""


def descend(recorder: Recorder, settings: DFTSettings, checker: Checker) -> Ending:
    """Check the end of a relaxation, and continue to a minimum if it is a saddle point."""
    level = settings.checked_at
    along = "" if level == "dft" else f", along a soft motion of {level}"
    notes: tuple[str, ...] = ()
    time = NO_TIME
    while True:
        end, begun = recorder.calls[-1].molecule, Time.now()
        try:
            curvature = look(end, settings, checker)
        except KilledError:
            raise
        except (RuntimeError, ValueError) as error:
            unknown = f"not checked to be a minimum at {level}: {error}"
            time += Time.now() - begun
            if settings.thermo != "none":
                return Ending(f"no free energy: {unknown}", None, notes, time)
            return Ending("", None, (*notes, unknown), time)
        time += Time.now() - begun
        if curvature is None or curvature.is_minimum:
            return Ending("", curvature, notes, time)
        found = f"imaginary frequency of {-curvature.lowest:.0f} cm⁻¹{along}"
        if len(notes) == DESCENTS:
            return Ending(f"no minimum: {found}", curvature, notes, time)
        notes = (
            *notes,
            (f"displaced from a saddle point after {len(recorder.calls)} calls: {found}"),
        )
        pushed = push_off(end, curvature)
        if reason := minimise(recorder, pushed, start_hessian(pushed, settings)[0], settings):
            return Ending(reason, None, notes, time)


def start_hessian(
    molecule: Molecule, settings: DFTSettings
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Return the start Hessian of the optimizer, eV/Å², positive definite, or None.

    Also returns notes if another Hessian than that of the settings is used, or one without the
    solvent.
    """
    hessian, notes = hessian_at(molecule, settings.hessian, settings.hessian_solvent)
    if hessian is None:
        return None, notes
    level = "gfn2-xtb" if notes else settings.hessian
    if settings.solvent and (level != "gfn2-xtb" or not settings.hessian_solvent):
        notes += (f"the {level} Hessian is that of the gas phase",)
    floor = find_optimizer(settings.optimizer).softest(settings.fmax)
    return positive_hessian(hessian, molecule.positions, floor), notes
