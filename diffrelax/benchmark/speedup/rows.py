"""Rows of a speed-up: the columns of molecules.csv, JSON and the HTML page."""

from __future__ import annotations

from typing import Any, Self

from diffrelax.benchmark.speedup.run import Outcome
from diffrelax.results.rows import Columns, column, perhaps
from diffrelax.units import KCAL_PER_MOL

STAGES = ("total", "embedding", "start", "hessian", "dft")


class OutcomeRow(Columns):
    """Result of one molecule in one arm; times in s, see `diffrelax.clock.Time`."""

    name: str = column("of the molecule", "molecule")
    smiles: str = column("of the molecule")
    start: str = column("of the arm")
    recipe: str = column("of the arm")
    converged: bool = column("whether a minimum of the same molecule was reached")
    basin: int | None = perhaps("number of its reference minimum", "minimum")
    calls: int | None = perhaps("energy-and-gradient calls", "gradient calls")
    scf_cycles: int | None = perhaps("of all calls", "SCF cycles")
    seconds_total: float | None = perhaps("from the SMILES to the end", "seconds", ".1f")
    seconds_embedding: float | None = perhaps("for embedding and force field")
    seconds_start: float | None = perhaps("for making the start")
    seconds_hessian: float | None = perhaps("for the initial Hessian")
    seconds_dft: float | None = perhaps("for SCF and gradients")
    processor_seconds_total: float | None = perhaps("in all", "processor seconds", ".1f")
    processor_seconds_embedding: float | None = perhaps("for embedding and force field")
    processor_seconds_start: float | None = perhaps("for making the start")
    processor_seconds_hessian: float | None = perhaps("of that Hessian")
    processor_seconds_dft: float | None = perhaps("for SCF and gradients")
    excess_ev: float | None = perhaps(
        "energy of the start above its reference minimum, eV",
        "start above its minimum, kcal/mol",
        ".3f",
        KCAL_PER_MOL,
    )
    energies_ev: list[float] | None = perhaps("of each gradient call, eV")
    reason: str = column("why there is no minimum, or no reference for it")
    notes: str = column("what differs from the settings")
    hardware: str = column("processor and threads of the DFT relaxation")

    @property
    def remark(self) -> str:
        """Reason and notes."""
        return "; ".join(filter(None, (self.reason, self.notes)))

    @classmethod
    def of(cls, outcome: Outcome) -> Self:
        """Return the row of an outcome."""
        times: dict[str, Any] = {}
        for stage in STAGES:
            if time := outcome.times.get(stage):
                times |= {f"seconds_{stage}": time.wall}
                times |= {f"processor_seconds_{stage}": time.processor}
        return cls(
            name=outcome.name,
            smiles=outcome.smiles,
            start=outcome.arm.start,
            recipe=outcome.arm.recipe,
            converged=outcome.converged,
            basin=outcome.basin,
            calls=outcome.calls or None,
            scf_cycles=outcome.scf_cycles or None,
            excess_ev=outcome.excess,
            energies_ev=list(outcome.energies) or None,
            reason=outcome.reason,
            notes="; ".join(outcome.notes),
            hardware=outcome.hardware,
            **times,
        )
