"""Rows: each column is declared once, and shown to people and to programs from there."""

from __future__ import annotations

import csv
from io import StringIO
from math import nan

import numpy as np
import pytest
from pydantic import ValidationError

from diffrelax.benchmark.estimates import Estimate
from diffrelax.benchmark.speedup.rows import OutcomeRow
from diffrelax.benchmark.speedup.statistics import ArmCost
from diffrelax.dft.thermochemistry import thermochemistry
from diffrelax.levels import relax_at_level
from diffrelax.molecule import Molecule
from diffrelax.relaxation import Relaxation
from diffrelax.results.documents import MinimisationDocument
from diffrelax.results.provenance import Provenance
from diffrelax.results.rows import (
    Columns,
    MoleculeRow,
    ResultRow,
    column,
    csv_text,
    perhaps,
    text_table,
)


class Sight(Columns):
    name: str = column("of the peak")
    height: float = column("above the sea, m", "height, km", ".1f", 1000.0)
    climbers: int | None = perhaps("in all")

    @property
    def remark(self) -> str:
        return "steep"


def test_people_see_titles_and_units_of_their_own() -> None:
    peak = Sight(name="K2", height=8611.0)
    assert Sight.header() == ("name", "height, km", "climbers")
    assert peak.cells() == ("K2", "8.6", "–")
    assert peak.cells(["remark", "height"]) == ("steep", "8.6")
    assert peak.model_dump() == {"name": "K2", "height": 8611.0, "climbers": None}
    assert Sight(name="?", height=nan).cells()[1] == "–"


def test_a_table_leaves_empty_columns_out_and_puts_numbers_to_the_right() -> None:
    rows = [Sight(name="K2", height=8611.0), Sight(name="Everest", height=8848.0)]
    lines = text_table(rows).splitlines()
    assert lines == ["name     height, km", "K2              8.6", "Everest         8.8"]


def test_what_must_be_told_is_missed_and_what_is_unknown_to_the_row_is_refused() -> None:
    for told in ({"name": "K2"}, {"name": "K2", "height": 1.0, "depth": 2.0}):
        with pytest.raises(ValidationError):
            Sight(**told)


@pytest.mark.parametrize("row", [MoleculeRow, ResultRow, OutcomeRow, ArmCost])
def test_every_column_says_what_it_means(row: type[Columns]) -> None:
    assert all(field.description for field in row.model_fields.values())


def test_an_estimate_is_shown_with_its_interval() -> None:
    assert f"{Estimate(2.0, 1.0, 3.0) / 2:.1f}" == "1.0 [0.5, 1.5]"
    assert f"{Estimate(2.0):g}" == "2"
    assert f"{Estimate(nan):g}" == "–"


def test_a_relaxation_fills_all_columns_and_a_minimum_its_own() -> None:
    water = Molecule.from_smiles("O")
    relaxed = MoleculeRow.of_relaxation(Relaxation("water", "refused", "small", water, water))
    assert list(relaxed) == list(MoleculeRow.model_fields)
    assert (relaxed["error_bound"], relaxed["noise_level"], relaxed["model_level"]) == (
        None,
        None,
        None,
    )
    minimum = MoleculeRow.of("water", water, "minimum", "", level="uff", fmax=nan)
    assert (minimum["level"], minimum["fmax"], minimum["symbols"]) == ("uff", None, water.symbols)
    assert "error_bound" not in minimum


def test_a_minimum_has_the_free_energy_that_conformers_are_weighed_by() -> None:
    water = Molecule.from_smiles("O")
    relaxed = relax_at_level(water, "gfn2-xtb")
    document = MinimisationDocument.from_level(
        water, relaxed, Provenance.here(), level="gfn2-xtb", fmax=0.03, max_steps=500
    )
    assert ResultRow.of(document).gibbs_energy_quasi_harmonic_ev is None
    gas = thermochemistry(
        water, np.array([1500.0, 3600, 3700]), -1.0, temperature=298.15, pressure=1e5
    )
    weighed = document.model_copy(update={"thermochemistry": gas})
    assert ResultRow.of(weighed).gibbs_energy_quasi_harmonic_ev == gas.gibbs_energy_quasi_harmonic


def test_a_file_of_values_is_read_as_it_was() -> None:
    rows = [["a, b", "1"], ['"c"', ""]]
    assert list(csv.reader(StringIO(csv_text(["x", "y"], rows)))) == [["x", "y"], *rows]
