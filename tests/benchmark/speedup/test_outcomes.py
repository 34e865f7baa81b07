"""Outcomes are written down as plain values, and read again, those of earlier versions too."""

from __future__ import annotations

import json
from dataclasses import fields

from diffrelax.benchmark.speedup.arms import SpeedupArm
from diffrelax.benchmark.speedup.run import OUTCOMES, Outcome
from diffrelax.clock import Time
from diffrelax.molecule import Molecule


def test_an_outcome_comes_back_as_it_was() -> None:
    water = Molecule.from_smiles("O")
    outcome = Outcome(
        "water",
        "O",
        SpeedupArm("mmff94", "bfgs"),
        "",
        times={"total": Time(2.0, 1.0)},
        energies=(-1.0, -2.0),
        begin=water,
        notes=("one",),
        basin=0,
        minimum=-2.0,
    )
    written = OUTCOMES.dump_python(outcome, mode="json")
    assert written["arm"] == ["mmff94", "bfgs"]
    assert written["times"] == {"total": {"wall": 2.0, "processor": 1.0}}
    assert written["begin"]["smiles"] == "O" and written["end"] is None
    again = OUTCOMES.validate_python(json.loads(json.dumps(written, allow_nan=False)))
    for field in fields(Outcome):
        value, kept = getattr(again, field.name), getattr(outcome, field.name)
        if field.name == "begin":
            assert (value.positions == kept.positions).all()
        else:
            assert value == kept
