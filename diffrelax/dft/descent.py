"""The way of an optimizer down to a minimum, and from saddle points further down."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from ase.calculators.calculator import CalculationFailed

from diffrelax.clock import NO_TIME, Time
from diffrelax.dft.cheap_hessian import cheap_hessian
from diffrelax.dft.hessian import positive_hessian, softest_curvature
from diffrelax.dft.internal import geometric, tric
from diffrelax.dft.minimisers import Minimiser, bfgs, sella
from diffrelax.dft.minimum import Curvature, look, push_off
from diffrelax.dft.recorder import Checker, Foreseen, Recorder
from diffrelax.dft.settings import DFTSettings
from diffrelax.levels.running import KilledError
from diffrelax.molecule.identity import identity_change

if TYPE_CHECKING:
    from diffrelax.choices import CheapHessian
    from diffrelax.molecule import Molecule

MINIMISERS: dict[str, Minimiser] = {
    "tric": tric,
    "bfgs": bfgs,
    "geometric": geometric,
    "sella": sella,
}
DESCENTS = 3  # from saddle points


class Ending(NamedTuple):
    """How a relaxation ends: why not at a minimum, and what a look at its end has told."""

    reason: str
    curvature: Curvature | None = None
    notes: tuple[str, ...] = ()
    time: Time = NO_TIME


def minimise(
    recorder: Recorder, molecule: Molecule, hessian: np.ndarray | None, settings: DFTSettings
) -> str:
    """Relax a molecule by the optimizer of the settings; say why it did not end well, if so.

    The end must be the molecule of the recorder, from whose start this one may have come.
    """
    atoms = molecule.to_atoms()
    atoms.calc = recorder
    # a single atom has no internal coordinates
    move = MINIMISERS[settings.optimizer] if molecule.n_atoms > 1 else bfgs
    try:
        reason = move(atoms, hessian, settings.fmax, settings.max_steps)
    except Foreseen:
        return ""
    except KilledError:
        raise
    except CalculationFailed as error:
        return f"gradient call {len(recorder.calls) + 1} failed: {error}"
    finally:
        if recorder.error:
            raise recorder.error
    calls = recorder.calls
    if reason and calls and calls[-1].energy > min(call.energy for call in calls):
        return f"{reason}; an earlier geometry has a lower energy than the last"
    if not reason and (change := identity_change(recorder.molecule, calls[-1].molecule.positions)):
        return f"identity lost: {change}"
    return reason


def descend(recorder: Recorder, settings: DFTSettings, checker: Checker) -> Ending:
    """Go on from the end of a relaxation, where it is a saddle point, to a minimum."""
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
            unknown = f"not checked to be a minimum at level {level}: {error}"
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
        notes = (*notes, f"pushed off a saddle point after {len(recorder.calls)} calls: {found}")
        pushed = push_off(end, curvature)
        if reason := minimise(recorder, pushed, start_hessian(pushed, settings)[0], settings):
            return Ending(reason, None, notes, time)


def start_hessian(
    molecule: Molecule, settings: DFTSettings
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Return a Hessian to start from, eV/Å², safe for the optimizer, or None.

    Where its level cannot give it, it is GFN2-xTB's. Also notes: what is not as it was asked for,
    and that the Hessian lacks the solvent.
    """
    if settings.hessian == "none":
        return None, ()
    levels: list[CheapHessian] = list(dict.fromkeys((settings.hessian, "gfn2-xtb")))
    others = [*(f"that of {level}" for level in levels[1:]), "the optimizer's own guess"]
    notes: tuple[str, ...] = ()
    for level, other in zip(levels, others, strict=True):
        try:
            hessian = cheap_hessian(molecule, level, settings.hessian_solvent)
        except (RuntimeError, ValueError) as error:
            notes += (f"no {level} Hessian, {other} instead: {error}",)
            continue
        if settings.solvent and (level == "aimnet2" or not settings.hessian_solvent):
            notes += (f"the {level} Hessian is that of the gas phase",)
        floor = softest_curvature(settings.fmax, settings.optimizer)
        return positive_hessian(hessian, molecule.positions, floor), notes
    return None, notes
