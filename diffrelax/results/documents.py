"""Result documents: what is stored of each unit of work, with its units in every description.

A document is plain JSON, so it lives in a file, in MongoDB or in a jobflow store alike, and comes
back from each of them as it went in.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from math import isnan, nan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from diffrelax.clock import Time
from diffrelax.entries import explain_invalid
from diffrelax.molecule import Bond, Molecule

if TYPE_CHECKING:
    from diffrelax.dft import DFTRelaxation
    from diffrelax.dft.prediction import Prediction
    from diffrelax.dft.thermochemistry import Thermochemistry
    from diffrelax.levels import LevelRelaxation
    from diffrelax.models.release import Model
    from diffrelax.relaxation import Relaxation

SCHEMA_VERSION: Final = 1

Vector: TypeAlias = tuple[float, float, float]


class Document(BaseModel):
    """What all documents have in common: they do not change, and know all of their fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class MoleculeDocument(Document):
    """A molecule, to the last bit of its positions."""

    numbers: tuple[int, ...] = Field(description="atomic numbers")
    positions: tuple[Vector, ...] = Field(description="Å")
    charge: int = Field(default=0, description="total charge, e")
    multiplicity: int = Field(default=1, description="2S + 1")
    bonds: tuple[tuple[int, int, float], ...] = Field(
        default=(), description="begin, end, order (1.5 is aromatic); empty if unknown"
    )
    formal_charges: tuple[int, ...] = Field(
        default=(), description="e, one for each atom; empty if unknown"
    )
    name: str = ""
    smiles: str = Field(default="", description="isomeric canonical SMILES, empty if unknown")
    start: str = Field(default="given", description="how the positions came to be")

    @classmethod
    def from_molecule(cls, molecule: Molecule) -> Self:
        """Write a molecule down."""
        record = asdict(molecule)
        return cls(
            **record
            | {
                "numbers": molecule.numbers.tolist(),
                "positions": molecule.positions.tolist(),
            }
        )

    def to_molecule(self) -> Molecule:
        """Return the same molecule again.

        Raises
        ------
        ValueError
            If the document was made by other software and is not a molecule.
        """
        record = dict(self)
        record["bonds"] = tuple(Bond(*bond) for bond in self.bonds)
        return Molecule(**record)


class Provenance(Document):
    """Where, when and with what a result was made."""

    version: str = Field(description="of diffrelax")
    git_commit: str = Field(default="", description="of its source tree, if it runs from one")
    uncommitted: bool | None = Field(
        default=None, description="whether its source was changed since; none if not known"
    )
    model: str = Field(default="", description="name and release, where a model took part")
    model_sha256: str = Field(default="", description="of the file of weights")
    seed: int | None = Field(default=None, description="of the embedding, where one took part")
    host: str
    hardware: str = Field(default="", description="processor and threads, where time is compared")
    finished: datetime = Field(description="UTC")

    @classmethod
    def here(
        cls, *, model: Model | None = None, seed: int | None = None, hardware: str = ""
    ) -> Self:
        """Describe this process at this moment."""
        commit, uncommitted = _source()
        return cls(
            version=version("diffrelax"),
            git_commit=commit,
            uncommitted=uncommitted,
            model=model.name if model else "",
            model_sha256=model.sha256 if model else "",
            seed=seed,
            host=socket.gethostname(),
            hardware=hardware,
            finished=datetime.now(UTC),
        )


class Result(Document):
    """What all results have in common."""

    schema_version: Literal[1] = SCHEMA_VERSION
    key: str = Field(default="", description="of the unit of work, see diffrelax.cache")
    name: str = Field(description="of the molecule")
    reason: str = Field(default="", description="what went wrong, or what to beware of")
    provenance: Provenance


class TimedResult(Result):
    """What all results have in common that took time."""

    seconds: dict[str, float] = Field(description="wall time by stage, s")
    processor_seconds: dict[str, float] = Field(
        default={},
        description="user and system time of all threads and programs, by stage, s; not all told",
    )

    @property
    def times(self) -> dict[str, Time]:
        """Time by stage; NaN for a processor time that was not told."""
        told = self.processor_seconds
        return {stage: Time(wall, told.get(stage, nan)) for stage, wall in self.seconds.items()}


class FailureDocument(Result):
    """An input for which a stage has nothing to show."""

    kind: Literal["failure"] = "failure"
    stage: str = Field(description="where it failed")
    source: str = Field(default="", description="the text that was given, or the file and record")


class RelaxationDocument(TimedResult):
    """A relaxation by a diffusion model."""

    kind: Literal["relaxation"] = "relaxation"
    input: MoleculeDocument | None = Field(
        description="the start; none where the verdict is failed"
    )
    output: MoleculeDocument | None = Field(
        description="at the relaxed geometry, or at the start if it was not relaxed"
    )
    verdict: Literal["relaxed", "refused", "fell_back", "failed"]
    noise_level: float | None = Field(description="first noise level, Å; none without the model")
    n_evaluations: int = Field(description="evaluations of the network")
    error_bound: float | None = Field(
        default=None,
        description="deviation from the minimum of the basin that nine in ten stay below, Å; "
        "none if unknown",
    )
    aim: str | None = Field(
        default=None,
        description="level of theory that the model aimed at; none without it, or before this was "
        "kept",
    )

    @classmethod
    def from_relaxation(
        cls, relaxation: Relaxation, provenance: Provenance, *, key: str = ""
    ) -> Self:
        """Write a relaxation down."""
        return cls(
            key=key,
            name=relaxation.name,
            reason=relaxation.reason,
            provenance=provenance,
            input=_written(relaxation.start),
            output=_written(relaxation.molecule),
            verdict=relaxation.verdict,
            noise_level=_known(relaxation.noise_level),
            n_evaluations=relaxation.n_evaluations,
            error_bound=_known(relaxation.error_bound),
            aim=relaxation.aim or None,
            seconds={"total": relaxation.time.wall},
            processor_seconds={"total": relaxation.time.processor},
        )


class Trajectory(Document):
    """What happened on the way; kept apart, because it is large."""

    energies: tuple[float, ...] = Field(description="eV, one for each gradient call")
    fmaxes: tuple[float, ...] = Field(
        description="largest force on an atom, eV/Å, one for each gradient call"
    )
    rms_forces: tuple[float, ...] = Field(
        default=(),
        description="root mean square over the atoms of the force, eV/Å, one for each "
        "gradient call; none before this was kept",
    )
    positions: tuple[tuple[Vector, ...], ...] = Field(
        description="Å, the geometry of each gradient call"
    )
    forces: tuple[tuple[Vector, ...], ...] = Field(
        default=(), description="eV/Å, at each of these; none before this was kept"
    )


class ThermochemistryDocument(Document):
    """Energies of an ideal gas of rigid rotors with harmonic vibrations."""

    temperature: float = Field(description="K")
    pressure: float = Field(description="Pa")
    symmetry_number: int = Field(description="rotations that lay the geometry on itself")
    frequencies: tuple[float, ...] = Field(description="cm⁻¹")
    zero_point_energy: float = Field(description="eV")
    enthalpy: float = Field(description="eV, with the energy of the electrons")
    entropy: float = Field(description="eV/K")
    gibbs_energy: float = Field(description="eV")
    gibbs_energy_quasi_harmonic: float = Field(
        description="eV, with soft vibrations as rotors (doi 10.1002/chem.201200497)"
    )

    @classmethod
    def of(cls, thermochemistry: Thermochemistry | None) -> Self | None:
        """Write thermochemistry down, if there is any."""
        return cls(**asdict(thermochemistry)) if thermochemistry else None


class PredictionDocument(Document):
    """How far a predicted minimum may be off: nine in ten keep each of the bounds."""

    fmax_bound: float = Field(description="of the largest force on an atom, eV/Å")
    energy_bound: float = Field(description="of the error of the energy, eV")
    rmsd_bound: float = Field(description="of the deviation from the minimum, Å")

    @classmethod
    def of(cls, prediction: Prediction | None) -> Self | None:
        """Write the bounds of a prediction down, if there is one."""
        return cls.model_validate(prediction, from_attributes=True) if prediction else None


class MinimisationDocument(TimedResult):
    """A relaxation at a level of theory, DFT or cheaper, converged or not."""

    kind: Literal["minimisation"] = "minimisation"
    level: str = Field(description="dft, or one of the cheap levels")
    settings: dict[str, Any] = Field(description="of the level and the optimizer")
    criterion: str = Field(description="the stopping rule in words")
    input: MoleculeDocument
    output: MoleculeDocument = Field(
        description="at the last geometry that was calculated, or at a predicted one"
    )
    energy: float | None = Field(description="eV, of the output; none if no calculation succeeded")
    fmax: float | None = Field(
        description="largest force on an atom of the output, eV/Å; none if not calculated there"
    )
    forces: tuple[Vector, ...] | None = Field(description="eV/Å, at the output; none if not kept")
    converged: bool = Field(
        description="criterion met, or predicted to be, and still the same molecule"
    )
    prediction: PredictionDocument | None = Field(
        default=None, description="where nothing was calculated at the output, which is predicted"
    )
    notes: tuple[str, ...] = Field(default=(), description="what differs from the settings")
    gradient_calls: int | None = Field(
        description="energy-and-gradient calls, the first included; none if not told"
    )
    scf_cycles: int | None = Field(default=None, description="of all calls; none without DFT")
    lowest_frequency: float | None = Field(
        default=None, description="cm⁻¹, an imaginary one as a negative number; none if not checked"
    )
    thermochemistry: ThermochemistryDocument | None = Field(
        default=None, description="of an ideal gas; none if not asked for"
    )
    trajectory: Trajectory | None = None

    @property
    def state(self) -> Literal["converged", "predicted", "not converged"]:
        """How it ended: at a minimum, at one that no calculation has verified, or at none."""
        if not self.converged:
            return "not converged"
        return "predicted" if self.prediction else "converged"

    @classmethod
    def from_dft(
        cls, start: Molecule, dft: DFTRelaxation, provenance: Provenance, *, key: str = ""
    ) -> Self:
        """Write a DFT relaxation down."""
        return cls(
            key=key,
            name=start.name,
            reason=dft.reason,
            provenance=provenance,
            level="dft",
            settings=dft.settings.model_dump(),
            criterion=dft.criterion,
            input=MoleculeDocument.from_molecule(start),
            output=MoleculeDocument.from_molecule(dft.molecule),
            energy=_known(dft.energy),
            fmax=_known(dft.fmax),
            forces=None if isnan(dft.fmax) else dft.forces.tolist(),
            converged=dft.converged,
            prediction=PredictionDocument.of(dft.prediction),
            notes=dft.notes,
            gradient_calls=dft.gradient_calls,
            scf_cycles=dft.scf_cycles,
            lowest_frequency=dft.lowest_frequency,
            thermochemistry=ThermochemistryDocument.of(dft.thermochemistry),
            seconds={stage: time.wall for stage, time in dft.times.items()},
            processor_seconds={stage: time.processor for stage, time in dft.times.items()},
            trajectory=Trajectory(
                energies=dft.energies,
                fmaxes=dft.fmaxes,
                rms_forces=dft.rms_forces,
                positions=dft.trajectory.tolist(),
                forces=dft.all_forces.tolist(),
            ),
        )

    @classmethod
    def from_level(
        cls,
        start: Molecule,
        relaxed: LevelRelaxation,
        provenance: Provenance,
        *,
        level: str,
        fmax: float,
        max_steps: int,
        key: str = "",
    ) -> Self:
        """Write a relaxation at a cheap level down."""
        return cls(
            key=key,
            name=start.name,
            reason=relaxed.reason,
            provenance=provenance,
            level=level,
            settings={"fmax": fmax, "max_steps": max_steps},
            criterion=f"largest force on an atom < {fmax:g} eV/Å",
            input=MoleculeDocument.from_molecule(start),
            output=MoleculeDocument.from_molecule(
                start.with_positions(relaxed.positions, start=level)
            ),
            energy=_known(relaxed.energy),
            fmax=_known(relaxed.fmax),
            forces=None,
            converged=relaxed.converged,
            gradient_calls=relaxed.n_calls,
            seconds={"total": relaxed.time.wall},
            processor_seconds={"total": relaxed.time.processor},
        )


class StaticDocument(TimedResult):
    """Energy and forces of one geometry."""

    kind: Literal["static"] = "static"
    level: str
    settings: dict[str, Any] = Field(description="of the level")
    input: MoleculeDocument
    energy: float = Field(description="eV")
    forces: tuple[Vector, ...] = Field(description="eV/Å")


ResultDocument: TypeAlias = (
    FailureDocument | RelaxationDocument | MinimisationDocument | StaticDocument
)

_RESULTS: TypeAdapter[ResultDocument] = TypeAdapter(
    Annotated[ResultDocument, Field(discriminator="kind")]
)


def is_finished(record: Mapping[str, Any]) -> bool:
    """Whether a record is that of a unit which need not be done again.

    It must, if this version cannot read it; and if it has failed, which may not happen twice.
    """
    try:
        return not isinstance(read_document(record), FailureDocument)
    except ValueError:
        return False


def read_document(record: Mapping[str, Any]) -> ResultDocument:
    """Read a result document, of this schema version or an older one.

    Parameters
    ----------
    record : mapping
        As ``document.model_dump(mode="json")`` wrote it; the marks that jobflow adds are ignored.

    Raises
    ------
    ValueError
        If it was written by a newer diffrelax, or is not a result document.
    """
    found = record.get("schema_version")
    if not isinstance(found, int) or found < 1:
        raise ValueError(
            f"a document without a schema version (it has {', '.join(map(str, record))}) is not a "
            "result of diffrelax, or comes from before its first schema: make it again"
        )
    if found > SCHEMA_VERSION:
        raise ValueError(
            f"a document of schema version {found} was written by a newer diffrelax; version "
            f"{version('diffrelax')} reads up to {SCHEMA_VERSION}: pip install -U diffrelax"
        )
    try:
        return _RESULTS.validate_python(_without_marks(record))
    except ValidationError as error:
        raise ValueError(
            f"a document is damaged, make it again: {explain_invalid(error)}"
        ) from error


def _without_marks(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_marks(v) for k, v in value.items() if not k.startswith("@")}
    return [_without_marks(v) for v in value] if isinstance(value, list) else value


def _written(molecule: Molecule | None) -> MoleculeDocument | None:
    return MoleculeDocument.from_molecule(molecule) if molecule else None


def _known(value: float) -> float | None:
    return None if isnan(value) else value


@cache
def _source() -> tuple[str, bool | None]:
    """Return the commit of the source tree, and whether the package was changed since."""
    package = Path(__file__).parents[1]
    if not (package.parent / ".git").exists():
        return "", None
    try:
        return _git(package, "rev-parse", "HEAD"), bool(_git(package, "status", "--short", "."))
    except (OSError, subprocess.CalledProcessError):
        return "", None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
