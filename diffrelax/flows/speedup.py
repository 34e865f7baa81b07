"""The flow that compares DFT relaxations from several starts, one job for each molecule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobflow import Flow, JobConfig, Maker, OnMissing, job

from diffrelax.clock import NO_TIME
from diffrelax.dft import DFTSettings
from diffrelax.errors import InputError
from diffrelax.flows.arguments import as_arguments, as_plain, job_name, label, read_argument
from diffrelax.flows.units import PlainDocument
from diffrelax.store import Store

if TYPE_CHECKING:
    from diffrelax.benchmark.speedup.arms import SpeedupArm


@dataclass
class SpeedupFlowMaker(Maker):
    """Relax molecules with DFT from several starts, and report what the starts save.

    One job runs all arms of a molecule one after another, so that times are comparable. The last
    job writes the report of ``diffrelax speedup`` into its folder and returns its tables; molecules
    without a result are named in it.

    Parameters
    ----------
    name : str
    starts, recipes : sequences of str
        See `diffrelax.benchmark.speedup.arms`.
    settings : dict
        Entries of `diffrelax.dft.DFTSettings`; the others are its defaults.
    model : str
        See `diffrelax.load_model`.
    seed : int
        Random seed for embedding SMILES.
    watts : float
        Assumed power of a busy processor core.
    work : str
        Folder of finished units and checkpoints, an absolute path that all workers share. Default:
        one in the folder of each job, so a restarted job begins again.
    """

    name: str = "speedup"
    starts: Sequence[str] = ("mmff94", "gfn2-xtb", "diffusion")
    recipes: Sequence[str] = ("bfgs", "tric+hessian")
    settings: dict[str, Any] = field(default_factory=dict)
    model: str = "default"
    seed: int = 42
    watts: float = 12.0
    work: str = "work"

    def __post_init__(self) -> None:
        from diffrelax.benchmark.speedup.arms import check_arms

        self.settings = DFTSettings(**self.settings).model_dump()
        check_arms(self._arms())

    def _arms(self) -> list[SpeedupArm]:
        from diffrelax.benchmark.speedup.arms import combine

        return combine(self.starts, self.recipes)

    def make(self, molecules: Any) -> Flow:
        """Make the flow.

        Parameters
        ----------
        molecules
            See `diffrelax.flows.RelaxFlowMaker.make`.

        Raises
        ------
        ValueError
            If there are none.
        """
        arguments = as_arguments(molecules, seed=self.seed)
        if not arguments:
            raise InputError("a flow needs at least one molecule")
        compared = []
        for i, argument in enumerate(arguments):
            compare = self.compare(argument)
            compare.name = job_name(self.name, i, label(argument))
            compared.append(compare)
        names = [label(argument) for argument in arguments]
        last = self.report(names, [compare.output for compare in compared])
        last.name = job_name(self.name, "report")
        return Flow([*compared, last], output=last.output, name=self.name)

    @job
    def compare(self, molecule: Any) -> list[PlainDocument]:
        """Run all arms of a molecule; the output has one record per arm."""
        from diffrelax.benchmark.speedup.arms import subjects_of
        from diffrelax.benchmark.speedup.run import OUTCOMES, compare_arms
        from diffrelax.benchmark.speedup.units import Units

        # a generator, so that the embedding is timed
        (subject,) = subjects_of(
            read_argument(as_plain(given, seed=self.seed), seed=self.seed) for given in [molecule]
        )
        level = DFTSettings(**self.settings)
        units = Units(Store.in_folder(self.work), self.model, level.level)
        (outcomes,) = compare_arms([subject], self._arms(), level, units)
        written = (replace(outcome, relaxation=None) for outcome in outcomes)
        return [
            OUTCOMES.dump_python(one, mode="json") | {"subject": subject.key} for one in written
        ]

    @job(config=JobConfig(on_missing_references=OnMissing.NONE))
    def report(
        self, names: Sequence[str], compared: Sequence[Sequence[PlainDocument] | None]
    ) -> PlainDocument:
        """Write the report; missing references are jobs without a result."""
        from diffrelax.benchmark.hardware import describe_hardware
        from diffrelax.benchmark.speedup.arms import distinct, same_as
        from diffrelax.benchmark.speedup.report import made_with, write_report
        from diffrelax.benchmark.speedup.rows import OutcomeRow
        from diffrelax.benchmark.speedup.run import OUTCOMES, Outcome
        from diffrelax.models.release import load_model

        outcomes: list[Outcome] = []
        done = [(name, records) for name, records in zip(names, compared, strict=True) if records]
        lost = [
            name or f"molecule {i}"
            for i, (name, records) in enumerate(zip(names, compared, strict=True))
            if records is None
        ]
        # the names and molecules of references are known only now
        unique = distinct(name or records[0]["name"] for name, records in done)
        first: dict[str, str] = {}
        for name, (_, records) in zip(unique, done, strict=True):
            earlier = first.setdefault(records[0]["subject"] or name, name)
            for outcome in map(OUTCOMES.validate_python, records):
                if earlier != name:
                    unpaid, reason = {"total": NO_TIME}, same_as(earlier)
                    outcome = Outcome(
                        name, outcome.smiles, outcome.arm, reason, unpaid, repeated=True
                    )
                outcomes.append(replace(outcome, name=name))
        model = {"model": self.model, "model_sha256": ""}
        if "diffusion" in self.starts:
            model = made_with(load_model(self.model), DFTSettings(**self.settings).level)
        about = model | {
            "command": f"{type(self).__name__} of jobflow",
            "seed": self.seed,
            "level": self.settings,
            "hardware": describe_hardware("cpu"),
            "lost": lost,
        }
        tables = write_report(Path.cwd(), outcomes, about, self.watts) if outcomes else ""
        rows = [OutcomeRow.of(outcome).model_dump() for outcome in outcomes]
        return {"kind": "speedup", "tables": tables, "rows": rows, "lost": lost}
