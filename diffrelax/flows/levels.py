"""Stages at a level of theory, with one molecule per unit of work."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from jobflow import Job, Maker, job

from diffrelax.clock import Time
from diffrelax.dft import DFTSettings
from diffrelax.errors import MACHINE_ERRORS, InputError, reason_of
from diffrelax.files.reading import Rejected
from diffrelax.flows.arguments import (
    as_argument,
    as_arguments,
    as_plain,
    failure,
    read_argument,
)
from diffrelax.flows.units import LostUnitError, PlainDocument, fetch, named, pass_on
from diffrelax.levels import (
    check_installed,
    check_level,
    get_calculator,
    relax_at_level,
)
from diffrelax.levels.calculators import check_cheap
from diffrelax.levels.running import KilledError
from diffrelax.molecule import Molecule
from diffrelax.results.documents import (
    FailureDocument,
    MinimisationDocument,
    ResultDocument,
    StaticDocument,
    times_by_stage,
)
from diffrelax.results.molecules import MoleculeDocument
from diffrelax.results.provenance import Provenance
from diffrelax.results.stored import read_finished, write_finished
from diffrelax.store import Store, work_key

logger = logging.getLogger(__name__)


@dataclass
class MoleculeMaker(Maker):
    """Base class of Makers with one molecule per unit of work."""

    name: str = "unit"
    work: str = ""
    stage: ClassVar[str]

    def make(self, molecule: Any) -> Job:
        """Return the job; its output is one result document.

        Parameters
        ----------
        molecule : SMILES, Molecule, ase.Atoms, rdkit.Chem.Mol, pymatgen Molecule, mapping or \
OutputReference
            A SMILES or a 2D drawing is embedded with seed 42; of a result document, the output
            geometry is used. A file must have a single molecule.
        """
        return self.run(as_argument(molecule))

    def make_batch(self, molecules: Any) -> Job:
        """Return one job for many molecules, for levels that take only seconds.

        Its output has one document per molecule, in order.
        """
        return self.run_batch(as_arguments(molecules))

    @job(data="trajectory")
    def run(self, molecule: Any) -> PlainDocument:
        """Do one unit."""
        return self._unit(molecule)

    @job(data="trajectory")
    def run_batch(self, molecules: Sequence[Any]) -> list[PlainDocument]:
        """Do units one after another; one whose program is killed does not affect others."""
        return [self._unit(molecule, survives=True) for molecule in molecules]

    def _unit(self, molecule: Any, *, survives: bool = False) -> PlainDocument:
        """Do or find the unit, or pass on an earlier failure."""
        try:
            molecule = as_plain(fetch(molecule))
        except LostUnitError as error:
            if not survives:
                raise
            return failure(Rejected(error.name, "", str(error)), stage=self.stage)
        read = read_argument(molecule)
        if isinstance(read, Rejected):
            return pass_on(molecule, read, work_key(self.stage, read.source, self.plain_settings()))
        key = work_key(self.stage, read, self.plain_settings())
        work = Store.in_folder(self.work)
        try:
            unit = work.find_or_do(key, lambda: self._do(read, key, work), self._read, self._write)
        except KilledError as error:
            if not survives:  # then the job is restarted, with more memory
                raise
            unit = self._failed(read, str(error), key)
        return named(unit, read.name)

    def _read(self, record: PlainDocument) -> ResultDocument | None:
        document = read_finished(record)
        return document if document and self.is_whole(document) else None

    def _write(self, document: ResultDocument) -> PlainDocument | None:
        return write_finished(document) if self.is_whole(document) else None

    def _do(self, molecule: Molecule, key: str, work: Store) -> ResultDocument:
        self.check_machine()
        try:
            return self.calculate(molecule, key, work)
        except (*MACHINE_ERRORS, KilledError):
            raise
        except Exception as error:  # one bad molecule never costs the others
            if not isinstance(error, InputError):  # which says that it is not for this level
                logger.exception("%s: %s", self.stage, molecule.name)
            reason = reason_of(error)
        return self._failed(molecule, reason, key)

    def _failed(self, molecule: Molecule, reason: str, key: str) -> FailureDocument:
        return FailureDocument.here(
            molecule.name, reason, stage=self.stage, source=molecule.smiles, key=key
        )

    def is_whole(self, document: ResultDocument) -> bool:
        """Return whether a finished unit has everything that is requested."""
        return True

    @property
    @abstractmethod
    def level_name(self) -> str:
        """Level of theory, such as ``PBE/def2-SVP``."""

    @abstractmethod
    def check_machine(self) -> None:
        """Raise InputError if something that the level needs is not installed here."""

    @abstractmethod
    def plain_settings(self) -> dict[str, Any]:
        """Return the settings that determine the result."""

    @abstractmethod
    def calculate(self, molecule: Molecule, key: str, work: Store) -> ResultDocument:
        """Do the work; InputError if this molecule cannot be treated."""


@dataclass
class LevelMaker(MoleculeMaker):
    """Base class of Makers with a named level of theory."""

    level: str = "mmff94"

    @property
    def level_name(self) -> str:
        """The level."""
        return self.level

    def check_machine(self) -> None:
        """Check the program or the weights of the level."""
        check_installed(self.level)


@dataclass
class ForceFieldRelaxMaker(LevelMaker):
    """Relax a molecule at a cheap level of theory: a force field, GFN2-xTB or the like.

    Parameters
    ----------
    name : str
    work : str
        Folder of finished units, shared by all workers; empty to keep none.
    level : str
        One of `diffrelax.levels.CHEAP_LEVELS`, or a level that another package adds.
    fmax : float, eV/Å
    max_steps : int
    """

    name: str = "force field"
    level: str = "mmff94"
    fmax: float = 0.03
    max_steps: int = 500
    stage = "minimise"

    def __post_init__(self) -> None:
        check_cheap(self.level)

    def plain_settings(self) -> dict[str, Any]:
        """Return level and stopping rule."""
        return {"level": self.level, "fmax": self.fmax, "max_steps": self.max_steps}

    def calculate(self, molecule: Molecule, key: str, work: Store) -> ResultDocument:
        """Relax."""
        relaxed = relax_at_level(molecule, self.level, fmax=self.fmax, max_steps=self.max_steps)
        return MinimisationDocument.from_level(
            molecule, relaxed, Provenance.here(), key=key, **self.plain_settings()
        )


@dataclass
class DFTRelaxMaker(MoleculeMaker):
    """Relax a molecule with DFT; resume from a checkpoint if there is one.

    More steps, or a check of the minimum, continue a finished relaxation.

    Parameters
    ----------
    name : str
    work : str
        Folder of finished units and checkpoints, shared by all workers and outside the run folders
        of jobs; empty to keep none.
    settings : dict
        Entries of `diffrelax.dft.DFTSettings`; the others are its defaults.
    """

    name: str = "dft"
    settings: dict[str, Any] = field(default_factory=dict)
    stage = "dft"

    def __post_init__(self) -> None:
        self.settings = DFTSettings(**self.settings).model_dump()

    @property
    def level_name(self) -> str:
        """Functional and basis."""
        return str(DFTSettings(**self.settings).level)

    def plain_settings(self) -> dict[str, Any]:
        """Return the settings."""
        return self.settings

    def check_machine(self) -> None:
        """Check the functional, the optimizer and the level of the Hessian."""
        from diffrelax.dft.optimization import check_settings

        check_settings(DFTSettings(**self.settings))

    def is_whole(self, document: ResultDocument) -> bool:
        """Return whether it has a trajectory, which units of a speed-up lack."""
        way = document.trajectory if isinstance(document, MinimisationDocument) else None
        return way is None or len(way.positions) == len(way.energies)

    def calculate(self, molecule: Molecule, key: str, work: Store) -> ResultDocument:
        """Relax."""
        from diffrelax.dft.optimization import relax_with

        relaxation = relax_with(molecule, DFTSettings(**self.settings), store=work)
        return MinimisationDocument.from_dft(molecule, relaxation, Provenance.here(), key=key)


@dataclass
class StaticMaker(LevelMaker):
    """Calculate energy and forces of a molecule without relaxing it.

    Parameters
    ----------
    name : str
    work : str
        Folder of finished units, shared by all workers; empty to keep none.
    level : str
        One of `diffrelax.levels.LEVELS`.
    settings : dict
        Of the level, see `diffrelax.levels.get_calculator`.
    """

    name: str = "static"
    level: str = "dft"
    settings: dict[str, Any] = field(default_factory=dict)
    stage = "static"

    def __post_init__(self) -> None:
        check_level(self.level)

    def plain_settings(self) -> dict[str, Any]:
        """Return level and settings."""
        return {"level": self.level, **self.settings}

    def calculate(self, molecule: Molecule, key: str, work: Store) -> ResultDocument:
        """Calculate."""
        started = Time.now()
        atoms = molecule.to_atoms()
        atoms.calc = get_calculator(self.level, molecule, **self.settings)
        try:
            forces = atoms.get_forces()
            energy = float(atoms.get_potential_energy())
        except (RuntimeError, ArithmeticError) as error:
            raise InputError(f"{self.level} failed: {error}") from error
        return StaticDocument(
            key=key,
            name=molecule.name,
            provenance=Provenance.here(),
            level=self.level,
            settings=self.settings,
            input=MoleculeDocument.from_molecule(molecule),
            energy=energy,
            forces=forces.tolist(),
            **times_by_stage({"total": Time.now() - started}),
        )
