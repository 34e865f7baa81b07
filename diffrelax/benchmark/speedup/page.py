"""HTML report of a speed-up: tables, figure, and starts and minima in 3D."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from diffrelax.benchmark.speedup.rows import OutcomeRow
from diffrelax.benchmark.speedup.run import Outcome
from diffrelax.dft import DFTSettings
from diffrelax.molecule import Molecule
from diffrelax.results.page import Figure, Page, Row, Table, Tone, View
from diffrelax.results.tables import counted

FIGURE = "Gradient calls, and energies of the starts"
SHOWN = (
    "name", "start", "recipe", "calls", "scf_cycles", "seconds_total", "processor_seconds_total",
    "excess_ev", "basin", "remark",
)  # fmt: skip
TEXT = (
    "One row for each molecule and arm. Seconds are from the SMILES to the end of the DFT "
    "relaxation. Minima of a molecule have numbers; of each, the first end that belongs to it is "
    "shown."
)


def speedup_page(
    outcomes: Sequence[Outcome],
    tables: Iterable[Table],
    gains: Mapping[str, str],
    about: Mapping[str, Any],
    figure: Path,
) -> Page:
    """Return the HTML page of a speed-up.

    Parameters
    ----------
    outcomes : sequence of Outcome
    tables : iterable of Table
        Tables of the report.
    gains : mapping of str to str
        Main results, shown at the top of the page.
    about : mapping
        See `diffrelax.benchmark.speedup.report.write_report`.
    figure : path
        A .png file; left out if it does not exist.
    """
    level = DFTSettings.model_validate(about["level"])
    by_name: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_name.setdefault(outcome.name, []).append(outcome)
    frames = {name: found for name, of_one in by_name.items() if (found := _frames(of_one))}
    places = {name: place for place, name in enumerate(frames)}
    one_recipe = len({outcome.arm.recipe for outcome in outcomes}) == 1
    columns = [name for name in SHOWN if not (one_recipe and name == "recipe")]
    rows = [_row(outcome, columns, places.get(outcome.name)) for outcome in outcomes]
    return Page(
        title="DFT speed-up",
        subtitle=f"{level.described}, until no force exceeds {level.fmax:g} eV/Å",
        facts={"molecules": str(len(by_name)), **gains},
        sections=[
            *([Figure(FIGURE, figure.read_bytes())] if figure.is_file() else []),
            *tables,
            Table("Molecules", TEXT, OutcomeRow.header(columns), rows),
        ],
        views=[_view(by_name[name], of_one, level.fmax) for name, of_one in frames.items()],
        made=about,
        elsewhere="molecules.csv has all rows.",
    )


def _frames(outcomes: Iterable[Outcome]) -> dict[str, Molecule]:
    """Return the geometries of a molecule by title, starts before minima."""
    starts: dict[str, Molecule] = {}
    ends: dict[str, Molecule] = {}
    for outcome in outcomes:
        if outcome.begin:
            starts.setdefault(_begin(outcome), outcome.begin)
        if outcome.end:
            ends.setdefault(_end(outcome), outcome.end)
    return starts | dict(sorted(ends.items()))


def _begin(outcome: Outcome) -> str:
    return f"start {outcome.arm.start}"


def _end(outcome: Outcome) -> str:
    return f"end of {outcome.arm}" if outcome.basin is None else f"minimum {outcome.basin}"


def _view(outcomes: Sequence[Outcome], frames: Mapping[str, Molecule], fmax: float) -> View:
    first = next((_end(outcome) for outcome in outcomes if outcome.end), "")
    lines = [f"{outcome.arm}: {_described(outcome)}" for outcome in outcomes]
    curves = {str(one.arm): one.largest_forces for one in outcomes}
    name, smiles = outcomes[0].name, outcomes[0].smiles
    return View(name, smiles, lines, frames, onto=first, curves=curves, fmax=fmax)


def _described(outcome: Outcome) -> str:
    if outcome.reason:
        return outcome.reason
    remarks = "".join(f" ({note})" for note in outcome.notes)
    calls = counted(outcome.calls, "call")
    return f"{calls}, minimum {outcome.basin}{remarks}"


def _row(outcome: Outcome, columns: Sequence[str], view: int | None) -> Row:
    ends = ((_begin(outcome), outcome.begin), (_end(outcome), outcome.end))
    shown = [label for label, molecule in ends if molecule]
    tone: Tone = "bad" if outcome.reason else "doubtful" if outcome.notes else "good"
    cells = OutcomeRow.of(outcome).cells(columns)
    return Row(cells, view if shown else None, shown, tone)
