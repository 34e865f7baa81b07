"""Rows of results; each column is declared once, with its unit.

Names of columns are used in JSON and files, titles in printed tables.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from functools import partial
from io import StringIO
from math import isnan
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, JsonValue, model_validator

from diffrelax.entries import Entries
from diffrelax.results.documents import (
    ConformerDocument,
    FailureDocument,
    LevelResult,
    MinimisationDocument,
    RelaxationDocument,
    ResultDocument,
    StaticDocument,
    TimedResult,
)
from diffrelax.results.tables import aligned_table, harmless
from diffrelax.units import HARTREE

if TYPE_CHECKING:
    from diffrelax.molecule import Molecule
    from diffrelax.relaxation import Relaxation

UNKNOWN = "–"


def column(
    meaning: str, title: str = "", form: str = "", unit: float = 1.0, default: Any = ...
) -> Any:
    """Declare a column of a row.

    Parameters
    ----------
    meaning : str
        Description with the unit of the values.
    title : str
        Title with the unit for printed tables. Default: the name.
    form : str
        Format of printed values, see `format`.
    unit : float
        Printed unit, in units of the values.
    default : value
        Default value; without it, a value is required.
    """
    shown: dict[str, JsonValue] = {"form": form, "unit": unit}
    return Field(default, title=title or None, description=meaning, json_schema_extra=shown)


perhaps = partial(column, default=None)  # None where it is not known


class Columns(Entries):
    """Base class of rows."""

    @classmethod
    def header(cls, names: Iterable[str] = ()) -> tuple[str, ...]:
        """Return the titles of some or all columns; properties have their names."""
        titles = {name: field.title for name, field in cls.model_fields.items()}
        return tuple(titles.get(name) or name for name in (names or titles))

    def cells(self, names: Iterable[str] = (), unknown: str = UNKNOWN) -> tuple[str, ...]:
        """Return the printed values of some or all columns."""
        return tuple(self._cell(name, unknown) for name in (names or type(self).model_fields))

    def _cell(self, name: str, unknown: str) -> str:
        value, field = getattr(self, name), type(self).model_fields.get(name)
        if value is None or (isinstance(value, float) and isnan(value)):
            return unknown
        shown = field.json_schema_extra if field else None
        if not isinstance(shown, dict):
            return str(value)
        unit, form = shown["unit"], str(shown["form"])
        return format(value if unit == 1 else value / unit, form)


class ModelColumns(Columns):
    """Columns of a molecule and its relaxation by a model."""

    name: str = column("of the molecule")
    smiles: str | None = perhaps("isomeric and canonical")
    charge: int | None = perhaps("e")
    multiplicity: int | None = perhaps("2S + 1")
    verdict: str = column(
        "`relaxed`, `refused`, `fell_back`, `failed`; of minima `minimum`, of exports without a "
        "relaxation `as given`"
    )
    reason: str = column("what went wrong, or a caution", default="")
    start: str | None = perhaps("origin of the start: `given`, `mmff94`, `uff`, …")
    noise_level: float | None = perhaps(
        "first noise level of the model, Å; 0 where the start was kept"
    )
    n_evaluations: int = column("of the network", default=0)
    error_bound: float | None = perhaps(
        "error bound: deviation from the minimum that nine in ten molecules stay below, Å"
    )
    model_level: str | None = perhaps("level of theory of the minimum that the model relaxes to")


class LevelColumns(Columns):
    """Columns of a relaxation at a level of theory."""

    level: str | None = perhaps("functional and basis, or the cheap level")
    criterion: str | None = perhaps("the stopping rule in words")
    optimizer: str | None = perhaps("of the DFT relaxation")
    hessian: str | None = perhaps("level of the Hessian that it started from")
    density_fit: bool | None = perhaps("whether it used density fitting")
    check_minimum: str | None = perhaps("level at which the end had to have no imaginary frequency")
    converged: bool | None = perhaps(
        "criterion met, or predicted to be, and still the same molecule"
    )
    gradient_calls: int | None = perhaps("energy-and-gradient calls; the first counts")
    scf_cycles: int | None = perhaps("of all these calls")
    fmax: float | None = perhaps(
        "largest force on an atom at the end, eV/Å; null for a predicted minimum"
    )
    fmax_bound: float | None = perhaps(
        "what nine in ten predicted ends keep, eV/Å; only with `one_call`, as those that follow"
    )
    energy_bound_ev: float | None = perhaps("the same for the error of the energy, eV")
    rmsd_bound: float | None = perhaps("the same for the deviation from the minimum, Å")
    lowest_frequency: float | None = perhaps(
        "cm⁻¹, an imaginary one negative; only with `--check-minimum` or `--thermo`"
    )
    energy_ev: float | None = perhaps("at the end, eV")
    excess_ev: float | None = perhaps(
        "energy of the start of DFT (the model's geometry if `relaxed`) above its minimum, eV"
    )
    thermo: str | None = perhaps(
        "level of the Hessian for free energies; this and the following only with `--thermo`"
    )
    temperature: float | None = perhaps("K")
    pressure: float | None = perhaps("Pa")
    symmetry_number: int | None = perhaps("of rotations")
    frequencies: list[float] | None = perhaps("cm⁻¹, ascending, imaginary ones negative")
    zero_point_energy_ev: float | None = perhaps("eV")
    enthalpy_ev: float | None = perhaps("eV, with the energy of the electrons")
    entropy_ev_per_kelvin: float | None = perhaps("eV/K")
    gibbs_energy_ev: float | None = perhaps("eV, with the energy of the electrons")
    gibbs_energy_quasi_harmonic_ev: float | None = perhaps(
        "the same with soft vibrations as rotors"
    )
    seconds: float | None = perhaps("wall time")


class GeometryColumns(Columns):
    """A geometry."""

    symbols: tuple[str, ...] | None = perhaps("elements")
    positions: list[list[float]] | None = perhaps("Å")


class MoleculeRow(GeometryColumns, LevelColumns, ModelColumns):  # columns of the last come first
    """Row of a molecule in outputs of `relax`, `dft` and similar commands."""

    @model_validator(mode="before")
    @classmethod
    def _without_nan(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {name: None if value != value else value for name, value in values.items()}

    @classmethod
    def of(
        cls, name: str, molecule: Molecule | None, verdict: str, reason: str, **values: Any
    ) -> dict[str, Any]:
        """Return a row of plain values with these columns and those of a molecule."""
        known: dict[str, Any] = {"smiles": None, "charge": None, "multiplicity": None}
        geometry: dict[str, Any] = {"symbols": None, "positions": None}
        if molecule:
            known = {"smiles": molecule.isotopic_smiles or None}
            known |= {"charge": molecule.charge, "multiplicity": molecule.multiplicity}
            geometry = {"symbols": molecule.symbols, "positions": molecule.positions.tolist()}
        row = cls(name=name, verdict=verdict, reason=reason, **known, **geometry, **values)
        return row.model_dump(exclude_unset=True)

    @classmethod
    def of_relaxation(cls, result: Relaxation) -> dict[str, Any]:
        """Return the row of a relaxation by a model, with all columns."""
        empty = cls(name=result.name, verdict=result.verdict).model_dump()
        return empty | cls.of(
            result.name,
            result.molecule,
            result.verdict,
            result.reason,
            start=result.start.start if result.start else None,
            noise_level=result.noise_level,
            n_evaluations=result.n_evaluations,
            error_bound=result.error_bound,
            model_level=result.level or None,
            seconds=result.seconds,
        )


class ResultRow(Columns):
    """Row of a result document, with the same columns for all kinds."""

    name: str = column("of the molecule")
    smiles: str | None = perhaps("of the molecule")
    kind: str = column("`failure`, `relaxation`, `minimisation`, `static` or `conformer`")
    stage: str = column("stage that produced it: `embed`, `relax`, `dft` or another level")
    level: str | None = perhaps("functional and basis, or the cheap level")
    criterion: str | None = perhaps("the stopping rule in words")
    state: str = column(
        "a verdict, or `converged`, `predicted`, `not converged`, `calculated`, `conformer`, "
        "`failed`"
    )
    reason: str = column("what went wrong, or a caution")
    energy_ev: float | None = perhaps("eV", "energy / Hartree", ".6f", HARTREE)
    gibbs_energy_quasi_harmonic_ev: float | None = perhaps(
        "with soft vibrations as rotors, if requested, eV",
        "free energy / Hartree",
        ".6f",
        HARTREE,
    )
    thermo: str | None = perhaps("level of the Hessian of the free energy")
    temperature: float | None = perhaps("of the free energy or the weight, K")
    pressure: float | None = perhaps("of the free energy, Pa")
    weight: float | None = perhaps("of Boltzmann, of a conformer", "weight, %", ".1f", 0.01)
    fmax: float | None = perhaps("largest force on an atom, eV/Å", "fmax / eV/Å", ".4f")
    gradient_calls: int | None = perhaps("energy-and-gradient calls", "calls")
    scf_cycles: int | None = perhaps("of all these calls")
    seconds: float | None = perhaps("wall time", form=".1f")
    model: str | None = perhaps("name and release, if one was used")
    host: str = column("where it was made")
    version: str = column("of diffrelax, with which it was made")
    finished: str = column("when it was made, UTC")
    key: str = column("of the unit of work")

    @classmethod
    def of(cls, document: ResultDocument) -> Self:
        """Return the row of a result document."""
        values: dict[str, Any] = {}
        match document:
            case FailureDocument():
                values = {"stage": document.stage, "state": "failed"}
            case RelaxationDocument():
                values = {"stage": "relax", "state": document.verdict}
            case StaticDocument():
                values = {"state": "calculated", "energy_ev": document.energy}
            case ConformerDocument():
                values = {"state": "conformer"}
                values |= {"energy_ev": document.energy, "weight": document.weight}
                values |= {"gibbs_energy_quasi_harmonic_ev": document.gibbs_energy}
                values |= {"temperature": document.temperature}
                values |= {"thermo": document.thermo if document.gibbs_energy else None}
            case MinimisationDocument():
                values = {"state": document.state, "energy_ev": document.energy}
                values |= document.model_dump(
                    include={"criterion", "fmax", "gradient_calls", "scf_cycles"}
                )
                if thermo := document.thermochemistry:
                    values |= thermo.model_dump(include={"temperature", "pressure"})
                    values |= {"thermo": document.settings.get("thermo")}
                    values |= {"gibbs_energy_quasi_harmonic_ev": thermo.gibbs_energy_quasi_harmonic}
        if isinstance(document, LevelResult):
            values |= {"stage": document.level, "level": document.level_name}
        if isinstance(document, TimedResult):
            values["seconds"] = document.seconds["total"]
        made, about = document.provenance, document.geometry
        return cls(
            name=document.name,
            smiles=about.to_molecule().isotopic_smiles or None if about else None,
            kind=document.kind,
            reason=document.reason,
            model=made.model or None,
            host=made.host,
            version=made.version,
            finished=made.finished.isoformat(),
            key=document.key,
            **values,
        )


def text_table(rows: Sequence[Columns], names: Iterable[str] = ()) -> str:
    """Format rows as a text table without empty columns."""
    names = tuple(names) or tuple(type(rows[0]).model_fields)
    columns = zip(
        rows[0].header(names), *(row.cells(names, unknown="") for row in rows), strict=True
    )
    kept = {name: column for name, column in zip(names, columns, strict=True) if any(column[1:])}
    texts = {
        place
        for place, name in enumerate(kept)
        if any(isinstance(getattr(row, name), str) for row in rows)
    }
    return aligned_table(list(zip(*kept.values(), strict=True)), texts)


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Format a table as comma-separated values, see `harmless`."""
    file = StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerows([header, *(map(harmless, row) for row in rows)])
    return file.getvalue()
