"""The page of an output: what became of each input of `relax`, `dft` or `minima`."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffrelax.errors import InputError
from diffrelax.results.beside import Finished, read_output
from diffrelax.results.page import Page, Row, Table, Tone, View
from diffrelax.results.rows import Columns, column, perhaps
from diffrelax.results.tables import counted
from diffrelax.units import HARTREE, KCAL_PER_MOL

TEXT = "One row for each input."
BOUND = " Nine in ten molecules are closer to their minimum than the error bound."
GOOD, DOUBTFUL = ("relaxed", "minimum", "converged", "predicted"), ("not converged", "fell_back")


class OutputRow(Columns):
    """What people are shown of an input."""

    name: str = column("of the molecule")
    state: str = column("the verdict, or how DFT ended", "result")
    error_bound: float | None = perhaps("Å", "error bound, Å", ".2g")
    gradient_calls: int | None = perhaps("energy-and-gradient calls", "gradient calls")
    energy_ev: float | None = perhaps("eV", "energy, Hartree", ".6f", HARTREE)
    excess_ev: float | None = perhaps("eV", "start above the end, kcal/mol", ".2f", KCAL_PER_MOL)
    gibbs_energy_ev: float | None = perhaps("eV", "free energy, Hartree", ".6f", HARTREE)
    fmax: float | None = perhaps("eV/Å", "largest force, eV/Å", ".3f")
    lowest_frequency: float | None = perhaps("cm⁻¹", "lowest frequency, cm⁻¹", ".0f")
    reason: str = column("what went wrong, or a caution", "caution or reason")

    @classmethod
    def of(cls, known: Mapping[str, Any]) -> OutputRow:
        """Take what the store has of an input."""
        chosen = {name: known[name] for name in cls.model_fields if name in known}
        return cls(**chosen | {"state": _state(known)})


def output_page(output: Path) -> Page:
    """Return the page of an output with a store beside it.

    Raises
    ------
    ValueError
        If it is not an output of a command that keeps one row for each input, or is in a format
        that cannot be read again.
    """
    settings, finished = read_output(output)
    if not finished:
        raise InputError(f"{output} has no results of relax, dft or minima: nothing to report")
    shown = [OutputRow.of(one.row) for one in finished]
    names = [name for name in OutputRow.model_fields if any(getattr(row, name) for row in shown)]
    views: list[View] = []
    rows: list[Row] = []
    for one, row in zip(finished, shown, strict=True):
        view = None if one.molecule is None else len(views)
        rows.append(Row(row.cells(names, unknown=""), view, tone=_tone(row)))
        if one.molecule:
            views.append(_view(one, settings))
    counts = Counter(row.state for row in shown)
    text = TEXT + BOUND if "error_bound" in names else TEXT
    levels = [one.row.get("level") or one.row.get("model_level") for one in finished]
    return Page(
        title=f"{output.name}: {counted(len(rows), 'molecule')}",
        subtitle=next((f"Level of theory: {level}" for level in levels if level), ""),
        facts={"inputs": str(len(rows))} | {state: str(n) for state, n in counts.items()},
        sections=[Table("Molecules", text, OutputRow.header(names), rows)],
        views=views,
        made=settings,
        elsewhere=f"All are in {output.name}; "
        f"{shlex.join(['diffrelax', 'results', 'list', str(output)])} prints them.",
    )


def _state(known: Mapping[str, Any]) -> str:
    if known.get("gradient_calls") is None or "converged" not in known:
        return str(known["verdict"])
    if not known["converged"]:
        return "not converged"
    return "converged" if known.get("rmsd_bound") is None else "predicted"


def _tone(row: OutputRow) -> Tone:
    if row.state in GOOD:
        return "doubtful" if row.reason else "good"
    return "doubtful" if row.state in DOUBTFUL else "bad"


def _view(one: Finished, settings: Mapping[str, Any]) -> View:
    assert one.molecule is not None
    verdict, bound = str(one.row["verdict"]), one.row.get("error_bound")
    within = "" if bound is None else f", error bound {bound:.2g} Å"
    lines = [verdict.replace("_", " ") + within, *filter(None, [one.row["reason"]])]
    ends = {"relaxed": "relaxed by the model", "minimum": "minimum"}
    end = ends.get(verdict, "as it is")
    if calls := one.row.get("gradient_calls"):
        state = _state(one.row)
        end = "minimum" if state == "converged" else end if state in ends else state
        lines.insert(1, f"{state} after {counted(calls, 'gradient call')}")
    starts = {label: one.molecule.with_positions(xyz) for label, xyz in one.frames.items()}
    return View(
        one.row["name"],
        one.row.get("smiles") or "",
        lines,
        {**starts, end: one.molecule},
        curves=one.curves,
        fmax=settings.get("fmax"),
    )
