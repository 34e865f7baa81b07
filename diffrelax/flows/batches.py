"""Stages that process a batch of molecules in one job.

Units of work that are finished in the same folder are not repeated. Errors of molecules become
documents; a job fails only for errors of the machine or the installation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from socket import gethostname
from typing import TYPE_CHECKING, Any

from jobflow import Job, Maker, job

from diffrelax.errors import InputError
from diffrelax.files.reading import Rejected
from diffrelax.files.smiles import cut_smiles
from diffrelax.flows.arguments import Plain, as_arguments, as_plain, failure, label, read_argument
from diffrelax.flows.units import PlainDocument, find_unit, is_failure, pass_on
from diffrelax.levels.level import Level
from diffrelax.molecule import Molecule
from diffrelax.results.documents import RelaxationDocument
from diffrelax.results.molecules import MoleculeDocument
from diffrelax.results.provenance import Provenance
from diffrelax.store import Store, work_key

if TYPE_CHECKING:
    from diffrelax.models.release import Model


PART = 64  # molecules that are read, relaxed and kept together


def load_on_worker(name: str, device: str) -> Model:
    """Load a model where a job runs.

    Raises
    ------
    ValueError
        If the device or the model is not available on this machine.
    """
    from diffrelax.models.release import load_model
    from diffrelax.training.devices import check_device

    try:
        check_device(device)
    except ValueError as error:
        raise InputError(f"{error} (on {gethostname()})") from error
    try:
        return load_model(name, device)
    except ValueError as error:
        raise InputError(
            f"{error} (on {gethostname()}): install the same version of diffrelax there, or "
            "put the file where all workers can read it"
        ) from error


@dataclass
class EmbedMaker(Maker):
    """Embed a batch of SMILES with ETKDGv3 and a force field.

    Parameters
    ----------
    name : str
    seed : int
        Of the embedding.
    """

    name: str = "embed"
    seed: int = 42

    def make(self, molecules: Any) -> Job:
        """Return the job; its output has one document per molecule, in order."""
        return self.run(as_arguments(molecules, seed=self.seed))

    @job
    def run(self, molecules: Sequence[Any]) -> list[PlainDocument]:
        """Embed molecules without coordinates."""
        embedded: list[PlainDocument] = []
        for molecule in molecules:
            given = as_plain(molecule, seed=self.seed)
            read = read_argument(given, seed=self.seed)
            if isinstance(read, Rejected):
                key = work_key("embed", read.source, {}, seed=self.seed)
                embedded.append(pass_on(given, read, key))
            else:
                document = MoleculeDocument.from_molecule(read)
                embedded.append(document.model_dump(mode="json"))
        return embedded


@dataclass
class DiffusionRelaxMaker(Maker):
    """Relax a batch of molecules with a diffusion model, which is loaded once for all of them.

    Parameters
    ----------
    name : str
    model : str
        See `diffrelax.load_model`; a path must be readable where the job runs.
    device : str
    level : str
        Level of theory of the next stage, such as ``PBE/def2-SVP``; the nearest learned level is
        used. Default: the model's own.
    noise_level : float, optional, Å
        See `diffrelax.relax`.
    seed : int
        Random seed for embedding SMILES and 2D drawings.
    work : str
        Folder of finished units, shared by all workers; empty to keep none.
    """

    name: str = "relax"
    model: str = "default"
    device: str = "cpu"
    level: str = ""
    noise_level: float | None = None
    seed: int = 42
    work: str = ""

    def make(self, molecules: Any) -> Job:
        """Return the job; its output has one document per molecule, in order."""
        return self.run(as_arguments(molecules, seed=self.seed))

    @job
    def run(self, molecules: Sequence[Any]) -> list[PlainDocument]:
        """Relax the unfinished molecules, and keep the results in parts.

        Raises
        ------
        ValueError
            If the model or the device is not available, or the model does not support the noise
            level.
        """
        from diffrelax.models.batches import choose_schedule

        model = load_on_worker(self.model, self.device)
        choose_schedule(model, self.noise_level)
        asked = Level.parse(self.level, strict=False) if self.level else None
        level = model.nearest_level(asked).level
        work = Store.in_folder(self.work)
        documents: list[PlainDocument] = []
        errors: list[Exception] = []
        for i in range(0, len(molecules), PART):
            part = [as_plain(given, seed=self.seed) for given in molecules[i : i + PART]]
            documents += self._relax_part(part, model, level, work, errors)
        if len(errors) == len(molecules) > 1:  # of no molecule
            raise errors[0]
        return documents

    def _relax_part(
        self,
        molecules: Sequence[Plain],
        model: Model,
        level: str,
        work: Store,
        errors: list[Exception],
    ) -> list[PlainDocument]:
        from diffrelax.relaxation import relax_molecules

        documents: dict[int, PlainDocument] = {}
        new: list[tuple[int, str, Molecule]] = []
        for i, given in enumerate(molecules):
            if is_failure(given):
                documents[i] = given
                continue
            key = self._key(given, model, level)
            if found := find_unit(work, key, label(given)):
                documents[i] = found
                continue
            molecule = read_argument(given, seed=self.seed)
            if isinstance(molecule, Rejected):
                documents[i] = pass_on(given, molecule, key)
            else:
                new.append((i, key, molecule))
        relaxed = relax_molecules(
            [molecule for *_, molecule in new], model, level=level, noise_level=self.noise_level
        )
        for (i, key, molecule), relaxation in zip(new, relaxed, strict=True):
            if relaxation.error:
                errors.append(relaxation.error)
                lost = Rejected(molecule.name, molecule.smiles, relaxation.reason)
                documents[i] = failure(lost, stage="relax", key=key)
                continue
            seed = self.seed if isinstance(molecules[i], str) else None
            provenance = Provenance.here(model=model, seed=seed)
            document = RelaxationDocument.from_relaxation(relaxation, provenance, key=key)
            documents[i] = document.model_dump(mode="json")
            work.keep(key, documents[i])
        return [documents[i] for i in range(len(molecules))]

    def _key(self, given: Plain, model: Model, level: str) -> str:
        """Return the key of a unit; a SMILES is not embedded for it."""
        if isinstance(given, str):
            what: Molecule | str = cut_smiles(given)[0]
        else:
            read = read_argument(given)
            what = read.source if isinstance(read, Rejected) else read
        settings: dict[str, Any] = {"noise_level": self.noise_level}
        if isinstance(what, Molecule):
            settings["start"] = what.start  # by which it is relaxed and judged
        if level != model.config.level:
            settings["level"] = level
        return work_key("relax", what, settings, model_sha256=model.sha256, seed=self.seed)
