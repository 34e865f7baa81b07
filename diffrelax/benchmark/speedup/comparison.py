"""Comparison of the arms of one molecule."""

from __future__ import annotations

from collections.abc import Sequence

from diffrelax.benchmark.speedup.run import Outcome
from diffrelax.molecule.comparison import same_minimum
from diffrelax.results.tables import aligned_table
from diffrelax.units import KCAL_PER_MOL


def excess_energies(outcomes: Sequence[Outcome]) -> list[float | None]:
    """Return the energy of each start above the minimum that it reaches, eV.

    For arms that reach the same minimum, the lowest energy found there is used, so that a
    relaxation that stops slightly early has no advantage.

    Returns
    -------
    list of float or None
        None for an arm that did not converge.
    """
    return [
        one.energies[0] - min(o.end_energy for o in outcomes if _same_end(one, o))
        if one.converged
        else None
        for one in outcomes
    ]


def comparison_table(outcomes: Sequence[Outcome]) -> str:
    """Format arms as a text table of energies, calls, seconds and remarks."""
    header = ("start", "above its end", "gradient calls", "SCF cycles", "seconds", "end")
    units = ("", "kcal/mol", "", "", "s", "")
    rows = [
        (
            one.arm.start,
            "–" if energy is None else f"{energy / KCAL_PER_MOL:.2f}",
            str(one.calls) if one.relaxation else "–",
            str(one.scf_cycles or "–"),
            f"{one.times['total'].wall:.1f}",
            _end(one, outcomes[0]),
        )
        for one, energy in zip(outcomes, excess_energies(outcomes), strict=True)
    ]
    return aligned_table([header, units, *rows])


def _same_end(one: Outcome, other: Outcome) -> bool:
    if one.end is None or other.end is None:
        return False
    gap = one.end_energy - other.end_energy
    return one is other or same_minimum(one.end, other.end, gap)


def _end(one: Outcome, first: Outcome) -> str:
    if one.end is None:
        return one.remarks
    if one is first or first.end is None:
        return one.relaxation.state if one.relaxation else "converged"
    if _same_end(one, first):
        return "same minimum"
    if same_minimum(one.end, first.end):
        gap = (one.end_energy - first.end_energy) / KCAL_PER_MOL
        return f"same geometry, {gap:+.2f} kcal/mol: tighten fmax to distinguish them"
    return "another minimum"
