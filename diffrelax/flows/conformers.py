"""The flow from one molecule to its conformers with Boltzmann weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import TYPE_CHECKING, Any, Literal

from jobflow import Flow, JobConfig, Maker, OnMissing, Response, job
from pydantic import Field

from diffrelax.choices import CurvatureLevel
from diffrelax.errors import InputError
from diffrelax.extras import NotInstalledError
from diffrelax.files.reading import Rejected
from diffrelax.flows.arguments import (
    as_argument,
    as_plain,
    failure,
    job_name,
    label,
    read_argument,
)
from diffrelax.flows.batches import load_on_worker
from diffrelax.flows.units import pass_on
from diffrelax.levels import check_installed, check_level, get_calculator
from diffrelax.molecule.embedding import check_seed
from diffrelax.results.documents import ConformerDocument
from diffrelax.results.molecules import Document, MoleculeDocument
from diffrelax.results.provenance import Provenance
from diffrelax.sampling.ensemble import (
    Ensemble,
    EnsembleProvenance,
    LevelSettings,
    check_temperature,
)
from diffrelax.store import Store, work_key

if TYPE_CHECKING:
    from diffrelax.sampling.conformers import Conformer, Funnel


class ConformersDocument(Document):
    """The conformers of a molecule, by rising energy."""

    kind: Literal["conformers"] = "conformers"
    name: str
    level: LevelSettings
    temperature: float = Field(description="K")
    conformers: tuple[ConformerDocument, ...]
    notes: tuple[str, ...] = Field(
        description="what happened to all geometries, and why starts failed"
    )
    provenance: Provenance

    @classmethod
    def from_ensemble(cls, name: str, ensemble: Ensemble) -> ConformersDocument:
        """Return the document of an ensemble."""
        method, level = ensemble.provenance, ensemble.level
        made = Provenance.here().model_copy(
            update={
                "model": method.model,
                "model_sha256": method.model_sha256,
                "seed": method.seed,
            }
        )
        decided = level.model_dump(mode="json") | method.settings
        decided |= {"temperature": ensemble.temperature}
        return cls(
            name=name,
            level=level,
            temperature=ensemble.temperature,
            conformers=tuple(
                ConformerDocument(
                    key=work_key(
                        "conformer",
                        molecule,
                        decided,
                        model_sha256=method.model_sha256,
                        seed=method.seed,
                    ),
                    name=name,
                    provenance=made,
                    level=level.name,
                    settings=level.settings,
                    molecule=MoleculeDocument.from_molecule(molecule),
                    energy=info.pop("energy_ev"),
                    gibbs_energy=info.pop("gibbs_energy_quasi_harmonic_ev", None),
                    thermo=str(method.settings["thermo"]),
                    temperature=ensemble.temperature,
                    **info,
                )
                for molecule, info in zip(ensemble.molecules, ensemble.infos, strict=True)
            ),
            notes=method.notes,
            provenance=made,
        )


@dataclass
class ConformerFlowMaker(Maker):
    """Find the conformers of a molecule: starts in one job, then two jobs for each.

    See `diffrelax.sample_conformers` for the method. The first jobs bring geometries near their
    minima; one more chooses those that are distinct and low, for which the second jobs follow. A
    job that does not end costs its conformer and leaves a note; the last one weights what there is.

    Parameters
    ----------
    name : str
    model, device : str
        See `diffrelax.load_model`.
    n : int
        Geometries that the model relaxes, at most; see `diffrelax.sample_conformers`.
    level : str
        One of `diffrelax.levels.LEVELS`, or ``"auto"``; see `diffrelax.sample_conformers`.
    surface : str
        Cheap level of the search; see `diffrelax.sample_conformers`.
    settings : dict
        Of the level.
    window : float, kcal/mol
        Above the lowest conformer.
    temperature : float, K
    thermo : {"none", "gfn2-xtb", "dft"}
        Level of the Hessian of free energies, for the level ``"dft"``.
    seed : int
        Of the embeddings.
    work : str
        Folder of finished units, shared by all workers; empty to keep none.
    """

    name: str = "conformers"
    model: str = "default"
    device: str = "cpu"
    n: int = 1000
    level: str = "auto"
    surface: str = "auto"
    settings: dict[str, Any] = field(default_factory=dict)
    window: float = 6.0
    temperature: float = 298.15
    thermo: CurvatureLevel = "none"
    seed: int = 42
    work: str = ""

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        if self.level != "auto":
            check_level(self.level)
        check_seed(self.seed)
        if self.n < 1:
            raise InputError(f"n = {self.n}: give 1 or more")
        if not 0 < self.window < inf:
            raise InputError(f"window {self.window} kcal/mol: give a finite, positive number")
        self._level.check_thermo(self.thermo)

    def make(self, molecule: Any) -> Flow:
        """Make the flow; its output is a `ConformersDocument`, or the document of a failure.

        Parameters
        ----------
        molecule : SMILES, Molecule, ase.Atoms, rdkit.Chem.Mol, mapping or OutputReference
        """
        argument = as_argument(molecule, seed=self.seed)
        search = self.search(argument)
        search.name = job_name(self.name, label(argument))
        return Flow([search], output=search.output, name=self.name)

    @job
    def search(self, molecule: Any) -> Response | dict[str, Any]:
        """Relax starts with the model, and let jobs follow for those that are different."""
        from diffrelax.sampling.conformers import choose_level, find_starts, write_conformer

        model = load_on_worker(self.model, self.device)
        plain = as_plain(molecule, seed=self.seed)
        given = read_argument(plain, seed=self.seed)
        if isinstance(given, Rejected):
            return pass_on(plain, given, work_key("conformers", given.source, {}, seed=self.seed))
        maker = replace(self, level=choose_level(self._level, given).name)
        check_installed(maker.level)
        try:
            get_calculator(maker.level, given, **self.settings)
            starts, method = find_starts(
                given, model, self.n, maker._funnel, surface=self.surface, seed=self.seed
            )
        except NotInstalledError:
            raise
        except ValueError as error:
            return failure(Rejected(given.name, given.smiles, str(error)), stage="conformers")
        jobs = []
        for start in starts:
            near = maker.approach(write_conformer(start))
            near.name = job_name(maker.level, "near", given.name, start.start)
            jobs.append(near)
        choose = maker.choose(
            given.name,
            [write_conformer(start) for start in starts],
            [j.output for j in jobs],
            method.model_dump(mode="json"),
        )
        choose.name = job_name("choose", given.name)
        return Response(replace=Flow([*jobs, choose], output=choose.output))

    @job
    def approach(self, start: dict[str, Any]) -> dict[str, Any]:
        """Bring one geometry near its minimum at the level."""
        from diffrelax.sampling.conformers import read_conformer

        return _described(*self._funnel.approach([read_conformer(start)])[0])

    @job(config=JobConfig(on_missing_references=OnMissing.NONE))
    def choose(
        self,
        name: str,
        starts: Sequence[dict[str, Any]],
        ends: Sequence[dict[str, Any] | None],
        method: dict[str, Any],
    ) -> Response | dict[str, Any]:
        """Choose what is distinct and low, and let jobs follow for these; see `weigh`."""
        from diffrelax.sampling.conformers import write_conformer

        near, notes = _sorted_out(starts, ends)
        chosen, added = self._funnel.choose(near)
        method = method | {"notes": [*method["notes"], *added, *notes]}
        if not chosen:
            return self._nothing(name, method["notes"])
        written, jobs = [write_conformer(one) for one in chosen], []
        for one in written:
            finish = self.finish(one)
            finish.name = job_name(self.level, name, one["start"])
            jobs.append(finish)
        last = self.weigh(name, written, [j.output for j in jobs], method)
        last.name = job_name("weights", name)
        return Response(replace=Flow([*jobs, last], output=last.output))

    @job
    def finish(self, near: dict[str, Any]) -> dict[str, Any]:
        """Relax one geometry to its minimum at the level."""
        from diffrelax.sampling.conformers import read_conformer

        return _described(*self._funnel.finish([read_conformer(near)])[0])

    @job(config=JobConfig(on_missing_references=OnMissing.NONE))
    def weigh(
        self,
        name: str,
        starts: Sequence[dict[str, Any]],
        ends: Sequence[dict[str, Any] | None],
        method: dict[str, Any],
    ) -> dict[str, Any]:
        """Merge minima and weight them; jobs that never ended are missing references."""
        from diffrelax.sampling.conformers import weigh

        minima, notes = _sorted_out(starts, ends)
        method = method | {"notes": [*method["notes"], *notes]}
        if not minima:
            return self._nothing(name, method["notes"])
        ensemble = weigh(minima, self._funnel, EnsembleProvenance.model_validate(method))
        return ConformersDocument.from_ensemble(name, ensemble).model_dump(mode="json")

    def _nothing(self, name: str, notes: Sequence[str]) -> dict[str, Any]:
        reason = f"no start reaches a minimum at level {self._funnel.level}: {notes[-1]}"
        return failure(Rejected(name, "", reason), stage="conformers")

    @property
    def _level(self) -> LevelSettings:
        return LevelSettings(name=self.level, settings=self.settings)

    @property
    def _funnel(self) -> Funnel:
        from diffrelax.sampling.conformers import Funnel

        work = Store.in_folder(self.work)
        return Funnel(self._level, work, self.window, self.thermo, self.temperature)


def _sorted_out(
    starts: Sequence[dict[str, Any]], ends: Sequence[dict[str, Any] | None]
) -> tuple[list[Conformer], list[str]]:
    """Separate minima from reasons of failure; jobs that died have neither."""
    from diffrelax.sampling.conformers import read_conformer, sort_out

    given = [read_conformer(start) for start in starts]
    found = [
        (read_conformer(end), end["reason"]) if end else (start, "its job did not finish")
        for start, end in zip(given, ends, strict=True)
    ]
    return sort_out(given, found)


def _described(end: Conformer, reason: str) -> dict[str, Any]:
    from diffrelax.sampling.conformers import write_conformer

    return write_conformer(end) | {"reason": reason}
