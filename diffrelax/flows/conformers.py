"""The flow from one molecule to its conformers with Boltzmann weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isnan, nan
from typing import TYPE_CHECKING, Any, Literal

from jobflow import Flow, JobConfig, Maker, OnMissing, Response, job
from pydantic import Field

from diffrelax.cache import WorkFolder, work_key
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
from diffrelax.results.molecules import Document, MoleculeDocument
from diffrelax.results.provenance import Provenance
from diffrelax.sampling.ensemble import (
    Ensemble,
    EnsembleProvenance,
    Level,
    check_temperature,
)

if TYPE_CHECKING:
    from diffrelax.sampling.conformers import Conformer


class ConformerDocument(Document):
    """A conformer of a molecule."""

    molecule: MoleculeDocument
    energy: float = Field(description="eV, at the level of theory")
    weight: float = Field(description="of Boltzmann; they add up to 1")
    symmetry_number: int = Field(description="of rotations")
    mirror_images: int = Field(description="2 if its mirror image counts too, else 1")
    n_starts: int = Field(description="how many embeddings and turned geometries led here")
    start: str = Field(description="the first of them")


class ConformersDocument(Document):
    """The conformers of a molecule, by rising energy."""

    kind: Literal["conformers"] = "conformers"
    name: str
    level: Level
    temperature: float = Field(description="K")
    conformers: tuple[ConformerDocument, ...]
    notes: tuple[str, ...] = Field(
        description="what became of all geometries that were tried, and why starts failed"
    )
    provenance: Provenance

    @classmethod
    def from_ensemble(cls, name: str, ensemble: Ensemble) -> ConformersDocument:
        """Write an ensemble down."""
        pairs = zip(ensemble.molecules, ensemble.infos, strict=True)
        return cls(
            name=name,
            level=ensemble.level,
            temperature=ensemble.temperature,
            conformers=tuple(
                ConformerDocument(
                    molecule=MoleculeDocument.from_molecule(molecule),
                    energy=info.pop("energy_ev"),
                    **info,
                )
                for molecule, info in pairs
            ),
            notes=ensemble.provenance.notes,
            provenance=Provenance.here().model_copy(
                update={
                    "model": ensemble.provenance.model,
                    "model_sha256": ensemble.provenance.model_sha256,
                    "seed": ensemble.provenance.seed,
                }
            ),
        )


@dataclass
class ConformerFlowMaker(Maker):
    """Find the conformers of a molecule: starts in one batch, then one job for each that is kept.

    See `diffrelax.sample_conformers` for the method. A job that does not end costs its conformer
    and leaves a note; the last job weights what there is.

    Parameters
    ----------
    name : str
    model, device : str
        See `diffrelax.load_model`.
    n : int
        Geometries that the model relaxes, at most; see `diffrelax.sample_conformers`.
    level : str
        One of `diffrelax.levels.LEVELS`.
    settings : dict
        Of the level.
    window : float, kcal/mol
        Above the lowest conformer.
    temperature : float, K
    seed : int
        Of the embeddings.
    work : str
        Folder of finished units, shared by all workers; empty to keep none.
    """

    name: str = "conformers"
    model: str = "default"
    device: str = "cpu"
    n: int = 1000
    level: str = "gfn2-xtb"
    settings: dict[str, Any] = field(default_factory=dict)
    window: float = 6.0
    temperature: float = 298.15
    seed: int = 42
    work: str = ""

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        check_level(self.level)

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
        from diffrelax.sampling.conformers import find_starts

        check_installed(self.level)
        model = load_on_worker(self.model, self.device)
        plain = as_plain(molecule, seed=self.seed)
        given = read_argument(plain, seed=self.seed)
        if isinstance(given, Rejected):
            return pass_on(plain, given, work_key("conformers", given.source, {}, seed=self.seed))
        try:
            get_calculator(self.level, given, **self.settings)
            starts, method = find_starts(
                given, model, self.n, level=self._theory, window=self.window, seed=self.seed
            )
        except ValueError as error:
            return failure(Rejected(given.name, given.smiles, str(error)), stage="conformers")
        jobs = []
        for start in starts:
            minimise = self.minimise(_written(start))
            minimise.name = job_name(self.level, given.name, start.start)
            jobs.append(minimise)
        last = self.weigh(
            given.name,
            [start.start for start in starts],
            [j.output for j in jobs],
            method.model_dump(mode="json"),
        )
        last.name = job_name("weights", given.name)
        return Response(replace=Flow([*jobs, last], output=last.output))

    @job
    def minimise(self, start: dict[str, Any]) -> dict[str, Any]:
        """Relax one geometry at the level."""
        from diffrelax.sampling.conformers import relax_conformer

        end, reason = relax_conformer(_read(start), self._theory, WorkFolder.of(self.work))
        return _written(end) | {"reason": reason}

    @job(config=JobConfig(on_missing_references=OnMissing.NONE))
    def weigh(
        self,
        name: str,
        starts: Sequence[str],
        ends: Sequence[dict[str, Any] | None],
        method: dict[str, Any],
    ) -> dict[str, Any]:
        """Merge minima and weight them; jobs that never ended are missing references."""
        from diffrelax.sampling.conformers import weigh

        provenance = EnsembleProvenance.model_validate(method)
        minima, notes = [], list(provenance.notes)
        for start, end in zip(starts, ends, strict=True):
            reason = "its job did not end" if end is None else end["reason"]
            if reason or end is None:
                notes.append(f"{start}: {reason}")
            else:
                minima.append(_read(end))
        if not minima:
            reason = f"no start reaches a minimum at level {self._theory}: {notes[-1]}"
            return failure(Rejected(name, "", reason), stage="conformers")
        provenance = provenance.model_copy(update={"notes": tuple(notes)})
        ensemble = weigh(minima, self._theory, self.temperature, provenance, window=self.window)
        return ConformersDocument.from_ensemble(name, ensemble).model_dump(mode="json")

    @property
    def _theory(self) -> Level:
        return Level(name=self.level, settings=self.settings)


def _written(one: Conformer) -> dict[str, Any]:
    molecule = MoleculeDocument.from_molecule(one.molecule).model_dump(mode="json")
    energy = None if isnan(one.energy) else one.energy
    return {"start": one.start, "molecule": molecule, "energy": energy, "n_starts": one.n_starts}


def _read(record: dict[str, Any]) -> Conformer:
    from diffrelax.sampling.conformers import Conformer

    molecule = MoleculeDocument.model_validate(record["molecule"]).to_molecule()
    energy = nan if record["energy"] is None else record["energy"]
    return Conformer(record["start"], molecule, energy, record["n_starts"])
