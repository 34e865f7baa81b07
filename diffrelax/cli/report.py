"""Printing and writing of results by commands."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from ase.calculators.calculator import all_properties
from tqdm import tqdm

from diffrelax.cli.inputs import count_inputs, each_input
from diffrelax.files.reading import Input, Record
from diffrelax.progress import progress_bar
from diffrelax.results.output import InputResult, ResultFile
from diffrelax.results.rows import ResultRow
from diffrelax.results.tables import counted, shown
from diffrelax.store import Store
from diffrelax.units import HARTREE

if TYPE_CHECKING:
    from diffrelax.molecule import Molecule
    from diffrelax.relaxation import Relaxation

MOST_ERRORS = 64  # internal errors without any success, after which a command stops
OWN_COLUMNS = ("verdict", "start", "seconds")
STATE_COLUMNS = {"charge", "multiplicity"}  # already part of the molecule
LABEL_COLUMNS = {"name", "smiles"}  # likewise, except in an .sdf: the SMILES may be that of a salt
DESCRIBED: dict[str, Callable[[float], str]] = {  # results of DFT
    "energy_ev": lambda energy: f"{energy / HARTREE:.6f} Hartree ({energy:.4f} eV)",
    "gibbs_energy_ev": lambda energy: f"G = {energy / HARTREE:.6f} Hartree",
    "lowest_frequency": "lowest frequency {:.0f} cm⁻¹".format,
}
# properties that do not hold for another geometry; energies are kept as those of the input
GEOMETRY_PROPERTIES = {*all_properties, "ensemble"} - {"energy", "free_energy"}


class Report:
    """Writes the results of a command to its output file, if any, and to the terminal.

    Parameters
    ----------
    output : path or None
    settings, is_good, overwrite
        See `ResultFile`; empty for a command that writes no geometries.
    json_lines : bool
        Print JSON objects instead of text.

    Attributes
    ----------
    store : Store
        Store of the output; in memory if there is none.
    n_done, n_bad : int
        Number of finished inputs, and how many of them were not successful.
    """

    def __init__(
        self,
        output: Path | None,
        settings: Mapping[str, Any],
        is_good: Callable[[Mapping[str, Any]], bool],
        *,
        overwrite: bool = False,
        json_lines: bool = False,
    ) -> None:
        self._file = ResultFile(output, settings, is_good, overwrite=overwrite) if output else None
        self.store = self._file.store if self._file else Store(None)
        self._is_good, self._json_lines = is_good, json_lines
        self._could_write = bool(settings) and not json_lines
        self.n_done = self.n_bad = self._n_before = 0
        self._errors: list[Exception] = []

    def __enter__(self) -> Report:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    def left_of(self, inputs: Iterator[Input]) -> Iterator[Input]:
        """Return the unfinished inputs; print the number of finished ones."""
        if not self._file:
            return inputs
        again = self._file.skip_done(inputs)
        self.n_done, self.n_bad = self._file.n_done, self._file.n_bad
        self._n_before = self.n_done
        if self.n_done:
            done = counted(self.n_done, "molecule")
            print(f"{self._file.path}: {done} done before, resuming", file=sys.stderr)
        return chain(again, inputs)

    def add(self, results: Sequence[InputResult]) -> None:
        """Write and print results; results that cannot be written are still printed."""
        try:
            if self._file:
                self._file.append(results)
        except OSError:
            self._tell_kept()
            raise
        finally:
            with tqdm.external_write_mode():
                for result in results:
                    show_row(result.row, self._json_lines)
        self.n_done += len(results)
        self.n_bad += sum(
            not (self._is_good(row) and row.get("written", True)) for _, row, *_ in results
        )
        self._errors += [result.error for result in results if result.error]

    def check_errors(self, enough: int = 1) -> None:
        """Raise the first internal error if there are at least ``enough`` and no success."""
        if len(self._errors) >= enough and self.n_bad == self.n_done:
            raise self._errors[0]

    def finish(self) -> None:
        """Print the final counts to standard error."""
        if not self._file:
            if self._could_write:
                print("no file was written: give one with -o", file=sys.stderr)
            return
        path, written = self._file.path, self._file.n_written
        if self.n_done == self._n_before:
            print("all inputs are done; use --overwrite to start again", file=sys.stderr)
        if again := self._file.n_again:
            print(f"{again} failed; rerun the command to try again", file=sys.stderr)
        if not written:
            print(f"no geometry to write: {path} was not written", file=sys.stderr)
            return
        missing = self.n_done - written
        note = f"; {missing} without a geometry" if missing else ""
        print(f"{counted(written, 'geometry')} in {path}{note}", file=sys.stderr)
        if self.n_bad and self.n_done > 1:
            bad = f"{self.n_bad} of {self.n_done} molecules failed, were refused or fell back"
            command = shlex.join(["diffrelax", "results", "list", str(path)])
            print(f"{bad}; their reasons: {command}", file=sys.stderr)

    def tell_interrupted(self, total: int | None) -> None:
        """Print how many inputs were finished before an interrupt, and where they are."""
        of_all = "" if total is None else f" of {total}"
        print(f"interrupted: {self.n_done}{of_all} molecules are done", file=sys.stderr)
        self._tell_kept()

    def _tell_kept(self) -> None:
        if self._file:
            kept = counted(self._file.n_written, "geometry")
            print(f"{kept} in {self._file.path}; rerun the command to resume", file=sys.stderr)


def report_each(
    inputs: list[str],
    charge: int | None,
    report: Report,
    work: Callable[[Iterator[Input]], Iterator[list[InputResult]]],
) -> None:
    """Process and report the unfinished inputs, then exit with the overall status.

    Parameters
    ----------
    inputs : list of str
        Inputs of the command.
    charge : int or None
        Charge of geometries without one.
    report : Report
        It is closed at the end.
    work : callable
        Yields the results of the inputs in parts; each part is written before the next begins.
    """
    total = count_inputs(inputs)
    with report:
        left = report.left_of(each_input(inputs, charge))
        try:
            with progress_bar(total, "mol", initial=report.n_done) as bar:
                for results in work(left):
                    report.add(results)
                    report.check_errors(MOST_ERRORS)
                    bar.update(len(results))
            report.check_errors()
            report.finish()
        except KeyboardInterrupt:
            report.tell_interrupted(total)
            raise typer.Exit(130) from None
    raise typer.Exit(1 if report.n_bad else 0)


def starts_of(result: Relaxation) -> dict[str, Molecule]:
    """Return the geometry that the model has moved, for a report; empty if it has moved none."""
    return {"start": result.start} if result.start and result.verdict == "relaxed" else {}


def carried(source: Input, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties of an input that still hold for its relaxed geometry.

    Energies, and properties with the name of one of our columns, get the prefix ``input_``; those
    of an earlier output are dropped.
    """
    if not isinstance(source, Record):
        return {}
    given = {k: v for k, v in source.properties.items() if k.lower() not in GEOMETRY_PROPERTIES}
    own = {*row, "formula", *ResultRow.model_fields}  # in JSON and in exported results
    is_ours = {*OWN_COLUMNS} <= {*given}
    as_given = [name for name in given if name not in own and not _is_energy(name)]
    kept = {name: given[name] for name in as_given}
    is_sdf = source.suffix == ".sdf"
    labels = {key for key in LABEL_COLUMNS if not is_sdf or given.get(key) == row.get(key)}
    read = STATE_COLUMNS | labels
    for name, value in given.items():
        if name not in as_given and name not in read and not is_ours:
            free = f"input_{name}"
            while free in kept:
                free = f"input_{free}"
            kept[free] = value
    return kept


def _is_energy(name: str) -> bool:
    return name.lower() == "e" or ("energ" in name.lower() and not name.startswith("input_"))


def show_row(row: dict[str, Any], json_lines: bool) -> None:
    """Print a row, as text or as a JSON object."""
    if json_lines:
        print(json.dumps(row, ensure_ascii=False), flush=True)
        return
    status = row["verdict"]
    converged, calls = row.get("converged"), row.get("gradient_calls")
    if converged is not None and calls is None:
        status += "; no DFT"
    elif converged is not None and calls is not None:
        predicted = row.get("rmsd_bound") is not None
        ending = "predicted" if predicted else "converged" if converged else "not converged"
        level = str(row.get("level"))
        work = level if " by " in level else "DFT"
        status += f"; {work} {ending} after {counted(calls, 'gradient call')}"
        status += f" and {row['seconds']:.1f} s"
        status += "".join(
            f", {describe(row[key])}" for key, describe in DESCRIBED.items() if row.get(key)
        )
    elif (bound := row.get("error_bound")) is not None:
        status += f" (error bound {bound:.2g} Å)"
    reason = f": {shown(row['reason'])}" if row["reason"] else ""
    charge, multiplicity = row.get("charge"), row.get("multiplicity")
    if charge or (multiplicity or 1) > 1:
        signed = f"{charge:+d}" if charge else "0"
        status = f"charge {signed}, multiplicity {multiplicity}  {status}"
    print(f"{shown(row['name'])}  {status}{reason}", flush=True)
