"""What the command line tells of each molecule, printed and written."""

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

ENOUGH = 64  # errors inside and nothing else, to give up
OURS = ("verdict", "start", "seconds")
KNOWN = {"charge", "multiplicity"}  # which the molecule has been read from
LABELS = {"name", "smiles"}  # too, but for those of an .sdf, such as the SMILES of the salt
DESCRIBED: dict[str, Callable[[float], str]] = {  # of DFT, where it is there
    "energy_ev": lambda energy: f"{energy / HARTREE:.6f} Hartree ({energy:.4f} eV)",
    "gibbs_energy_ev": lambda energy: f"G = {energy / HARTREE:.6f} Hartree",
    "lowest_frequency": "lowest frequency {:.0f} cm⁻¹".format,
}
# properties that do not hold for another one; its energy is told as that of the input
OF_A_GEOMETRY = {*all_properties, "ensemble"} - {"energy", "free_energy"}


class Report:
    """Where the rows of a command go as they come: to a file, if there is one, and the terminal.

    Parameters
    ----------
    output : path or None
    settings, is_good, overwrite
        See `ResultFile`; a command that writes no geometries has no settings.
    json_lines : bool
        Print JSON objects, not lines for people.

    Attributes
    ----------
    store : Store
        That of the output; without one in memory.
    n_done, n_bad : int
        Inputs that are done, and those of them that did not come out well.
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
        """Return the inputs that are not done, and say on standard error how many are."""
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
        """Write results, and show their rows; what cannot be written is shown at least."""
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
        """Raise the first of so many errors inside, if nothing came out well: of no molecule."""
        if len(self._errors) >= enough and self.n_bad == self.n_done:
            raise self._errors[0]

    def finish(self) -> None:
        """Say on standard error how many geometries there are, once all inputs are done."""
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
        """Say on standard error how many of the inputs are done, and where they are."""
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
    """Report what becomes of the inputs that are not done, and exit with the status of all.

    Parameters
    ----------
    inputs : list of str
        Of the command.
    charge : int or None
        Of geometries that tell none.
    report : Report
        Closed at the end.
    work : callable
        Yields the results of inputs part by part, and goes on when a part has been written.
    """
    total = count_inputs(inputs)
    with report:
        left = report.left_of(each_input(inputs, charge))
        try:
            with progress_bar(total, "mol", initial=report.n_done) as bar:
                for results in work(left):
                    report.add(results)
                    report.check_errors(ENOUGH)
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
    """Return the properties of an input that hold for its relaxed geometry too.

    Those that are called as a column of our own, and energies, are told as of the input, unless all
    are of an earlier output.
    """
    if not isinstance(source, Record):
        return {}
    given = {k: v for k, v in source.properties.items() if k.lower() not in OF_A_GEOMETRY}
    own = {*row, "formula", *ResultRow.model_fields}  # of JSON, and of exported results
    is_ours = {*OURS} <= {*given}
    as_given = [name for name in given if name not in own and not _is_energy(name)]
    kept = {name: given[name] for name in as_given}
    is_sdf = source.suffix == ".sdf"
    labels = {key for key in LABELS if not is_sdf or given.get(key) == row.get(key)}
    read = KNOWN | labels
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
    """Print a row on standard output, for people or as a JSON object."""
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
