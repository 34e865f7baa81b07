"""The same molecule relaxed with DFT from several starts, each with its whole cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ase.units import kcal, mol

from diffrelax.benchmark.speedup.arms import level_settings
from diffrelax.dft import DFTRelaxation, DFTSettings
from diffrelax.dft.optimization import Callback, relax_with
from diffrelax.levels import relax_at_level
from diffrelax.molecule.identity import identity_change, same_minimum
from diffrelax.relaxation import Relaxation
from diffrelax.results.tables import aligned_table

KCAL_PER_MOL = kcal / mol  # eV


@dataclass(frozen=True, eq=False)
class Arm:
    """A DFT relaxation from one start.

    Parameters
    ----------
    start : str
        How the start was made: ``diffusion``, ``mmff94``, …
    seconds_before : float
        Wall time before the DFT: embedding, force field, network.
    dft : DFTRelaxation or None
        None if the start or the level of theory does not exist for this molecule.
    failure : str
        Why ``dft`` is None; empty otherwise.
    """

    start: str
    seconds_before: float
    dft: DFTRelaxation | None
    failure: str = ""

    @property
    def converged(self) -> bool:
        """Whether a minimum was reached."""
        return self.dft is not None and self.dft.converged

    @property
    def seconds(self) -> float:
        """Wall time from the input to the end of the DFT relaxation."""
        return self.seconds_before + (self.dft.seconds["total"] if self.dft else 0.0)

    @property
    def remarks(self) -> str:
        """What went wrong, and what to beware of; empty if there is nothing to say."""
        if self.dft is None:
            return self.failure
        return "; ".join(filter(None, (self.dft.reason, *self.dft.notes)))


def relax_from(
    start: str,
    result: Relaxation,
    settings: DFTSettings,
    *,
    threads: int | None = None,
    checkpoint: Path | None = None,
    callback: Callback | None = None,
) -> Arm:
    """Relax a molecule with DFT from one of its starts.

    Parameters
    ----------
    start : {"diffusion", "mmff94", "uff", "gfn2-xtb"}
        The result of the model, the force-field geometry that the model started from, or that
        geometry relaxed at another level.
    result : Relaxation
        With a geometry. The end of the relaxation must still be the molecule of its start.
    settings : DFTSettings
    threads, checkpoint, callback
        See :func:`diffrelax.dft.relax_dft`.

    Raises
    ------
    ValueError
        If the result has no geometry.
    """
    if result.molecule is None or result.start is None:
        raise ValueError(f"{result.name} has no geometry: {result.reason}")
    seconds = 0.0
    try:
        if start == "diffusion":
            if result.verdict != "relaxed":
                return Arm(start, result.seconds, None, f"{result.verdict}: {result.reason}")
            molecule, seconds = result.molecule, result.seconds
        elif start == result.start.start:
            molecule = result.start
        else:
            relaxed = relax_at_level(result.start, start, **level_settings(start))
            if not relaxed.converged:
                return Arm(start, relaxed.seconds, None, relaxed.reason)
            molecule = result.start.with_positions(relaxed.positions, start=start)
            seconds = relaxed.seconds
        dft = relax_with(
            molecule, settings, threads=threads, checkpoint=checkpoint, callback=callback
        )
    except OSError:
        raise
    except ValueError as error:
        return Arm(start, seconds, None, str(error))
    except Exception as error:  # one bad molecule never costs the others
        return Arm(start, seconds, None, f"{type(error).__name__}: {error}")
    if dft.converged and (change := identity_change(result.start, dft.molecule.positions)):
        dft = replace(dft, converged=False, reason=f"identity lost: {change}")
    return Arm(start, seconds, dft)


def excess_energies(arms: list[Arm]) -> list[float | None]:
    """Return the energy of each start above the minimum that it reaches, eV.

    Arms that reach the same minimum share the lowest energy found for it, so that a relaxation
    that stopped a little early is not counted as lower.

    Returns
    -------
    list of float or None
        None for an arm that did not converge.
    """
    return [
        arm.dft.initial_energy - min(o.dft.energy for o in arms if o.dft and _same_end(arm, o))
        if arm.dft and arm.dft.converged
        else None
        for arm in arms
    ]


def comparison_table(arms: list[Arm], excess: list[float | None]) -> str:
    """Format arms as a table for people: kcal/mol, calls, seconds, and what to beware of."""
    header = ("start", "above lowest end", "gradient calls", "SCF cycles", "seconds", "end")
    units = ("", "kcal/mol", "", "", "s", "")
    rows = [
        (
            arm.start,
            "–" if energy is None else f"{energy / KCAL_PER_MOL:.2f}",
            str(arm.dft.gradient_calls) if arm.dft else "–",
            str(arm.dft.scf_cycles) if arm.dft else "–",
            f"{arm.seconds:.1f}",
            _end(arm, arms[0]),
        )
        for arm, energy in zip(arms, excess, strict=True)
    ]
    return aligned_table([header, units, *rows])


def _same_end(arm: Arm, other: Arm) -> bool:
    if arm.dft is None or other.dft is None or not (arm.converged and other.converged):
        return False
    gap = arm.dft.energy - other.dft.energy
    return arm is other or same_minimum(arm.dft.molecule, other.dft.molecule, gap)


def _end(arm: Arm, first: Arm) -> str:
    if not arm.converged:
        return arm.remarks
    if arm is first or not first.converged:
        return "converged"
    if _same_end(arm, first):
        return "same minimum"
    assert arm.dft is not None and first.dft is not None
    if same_minimum(arm.dft.molecule, first.dft.molecule):
        gap = (arm.dft.energy - first.dft.energy) / KCAL_PER_MOL
        return f"same geometry, {gap:+.2f} kcal/mol: tighten fmax to tell"
    return "another minimum"
