"""The same molecule relaxed with DFT from several starts, each with its whole cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ase.units import kcal, mol

from diffrelax.dft import DFTRelaxation
from diffrelax.identity import same_minimum

KCAL_PER_MOL = kcal / mol  # eV


@dataclass(frozen=True, eq=False)
class Arm:
    """A DFT relaxation from one start.

    Parameters
    ----------
    start : str
        How the start was made, such as ``diffusion`` or ``mmff94``.
    dft : DFTRelaxation
    seconds_before : float
        Wall time before the DFT: embedding, force field, network.
    """

    start: str
    dft: DFTRelaxation
    seconds_before: float

    @property
    def seconds(self) -> float:
        """Wall time from the input to the end of the DFT relaxation."""
        return self.seconds_before + self.dft.seconds["total"]


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
        arm.dft.initial_energy - min(other.dft.energy for other in arms if _shared(arm, other))
        if arm.dft.converged
        else None
        for arm in arms
    ]


def comparison_table(arms: list[Arm], excess: list[float | None]) -> str:
    """Format arms as a table for people: kcal/mol, calls, seconds, and what to beware of."""
    header = ("start", "excess energy", "gradient calls", "SCF cycles", "seconds", "end")
    units = ("", "kcal/mol", "", "", "s", "")
    rows = [
        (
            arm.start,
            "–" if energy is None else f"{energy / KCAL_PER_MOL:.2f}",
            str(arm.dft.gradient_calls),
            str(arm.dft.scf_cycles),
            f"{arm.seconds:.1f}",
            _end(arm, arms[0]),
        )
        for arm, energy in zip(arms, excess, strict=True)
    ]
    return format_table([header, units, *rows])


def format_table(rows: list[tuple[str, ...]]) -> str:
    """Align the columns of a table, the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    justify: list[Callable[[str, int], str]] = [str.ljust, *[str.rjust] * (len(widths) - 1)]
    return "\n".join(
        "  ".join(put(cell, w) for put, cell, w in zip(justify, row, widths, strict=True)).rstrip()
        for row in rows
    )


def _shared(arm: Arm, other: Arm) -> bool:
    if not other.dft.converged:
        return False
    gap = arm.dft.energy - other.dft.energy
    return arm is other or same_minimum(arm.dft.molecule, other.dft.molecule, gap)


def _end(arm: Arm, first: Arm) -> str:
    if not arm.dft.converged:
        return arm.dft.reason
    if arm is first or not first.dft.converged:
        return "converged"
    return "same minimum" if _shared(arm, first) else "another minimum"
