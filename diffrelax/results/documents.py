"""Result documents, stored for each unit of work; descriptions have the units.

A document is plain JSON, so files, MongoDB and jobflow stores return it unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan, nan
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias

from pydantic import Field

from diffrelax.choices import Verdict
from diffrelax.clock import Time
from diffrelax.dft.result import Thermochemistry
from diffrelax.dft.settings import LEVEL, DFTSettings
from diffrelax.levels.profiles import Profile
from diffrelax.results.molecules import Document, MoleculeDocument, Vector
from diffrelax.results.provenance import Provenance

if TYPE_CHECKING:
    from diffrelax.dft import DFTRelaxation
    from diffrelax.dft.prediction import Prediction
    from diffrelax.levels import LevelRelaxation
    from diffrelax.molecule import Molecule
    from diffrelax.relaxation import Relaxation

SCHEMA_VERSION: Final = 1


class Result(Document):
    """Fields of all results."""

    schema_version: Literal[1] = SCHEMA_VERSION
    key: str = Field(default="", description="of the unit of work, see diffrelax.store")
    name: str = Field(description="of the molecule")
    reason: str = Field(default="", description="what went wrong, or a caution")
    provenance: Provenance

    @property
    def geometry(self) -> MoleculeDocument | None:
        """The molecule at the geometry of the result; None if there is none."""
        return None

    @property
    def level_name(self) -> str | None:
        """Level of theory, such as ``pbe/def2-svp``; None without one."""
        return None


class TimedResult(Result):
    """Fields of results with times."""

    seconds: dict[str, float] = Field(description="wall time by stage, s")
    processor_seconds: dict[str, float] = Field(
        default={},
        description="user and system time of all threads and programs, by stage, s; not all told",
    )

    @property
    def times(self) -> dict[str, Time]:
        """Time by stage; NaN for unknown processor times."""
        known = self.processor_seconds
        return {stage: Time(wall, known.get(stage, nan)) for stage, wall in self.seconds.items()}


class FailureDocument(Result):
    """An input without a result in a stage."""

    kind: Literal["failure"] = "failure"
    stage: str = Field(description="where it failed")
    source: str = Field(default="", description="the text that was given, or the file and record")

    @classmethod
    def here(cls, name: str, reason: str, *, stage: str, source: str = "", key: str = "") -> Self:
        """Return the document of a failure in this process."""
        return cls(
            key=key, name=name, reason=reason, stage=stage, source=source,
            provenance=Provenance.here(),
        )  # fmt: skip


class RelaxationDocument(TimedResult):
    """A relaxation by a diffusion model."""

    kind: Literal["relaxation"] = "relaxation"
    input: MoleculeDocument | None = Field(
        description="the start; none where the verdict is failed"
    )
    output: MoleculeDocument | None = Field(
        description="at the relaxed geometry, or if it was not relaxed at the start, or at "
        "GFN2-xTB's minimum where the end was strained"
    )
    verdict: Verdict
    noise_level: float | None = Field(description="first noise level, Å; none without the model")
    n_evaluations: int = Field(description="evaluations of the network")
    error_bound: float | None = Field(
        default=None,
        description="deviation from the minimum of the basin that nine in ten stay below, Å; "
        "none if unknown",
    )
    model_level: str | None = Field(
        default=None,
        description="level of theory of the minimum that the model relaxes to; none without it",
    )

    @property
    def geometry(self) -> MoleculeDocument | None:
        """The output."""
        return self.output

    @classmethod
    def from_relaxation(
        cls, relaxation: Relaxation, provenance: Provenance, *, key: str = ""
    ) -> Self:
        """Return the document of a relaxation."""
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
            model_level=relaxation.level or None,
            **times_by_stage({"total": relaxation.time}),
        )


class TrajectoryDocument(Document):
    """Trajectory of a relaxation; stored separately because of its size."""

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


class LevelResult(Result):
    """Fields of results at a level of theory."""

    level: str = Field(description="dft, or one of the cheap levels")
    settings: dict[str, Any] = Field(
        description="of the level, and of the optimizer if there is one"
    )

    @property
    def level_name(self) -> str:
        """Level of theory, such as ``pbe/def2-svp``, and the program if it is not PySCF."""
        if self.level != "dft":
            return self.level
        chosen = {key: self.settings[key] for key in LEVEL if key in self.settings}
        if profile := self.settings.get("calculator"):
            chosen["calculator"] = Profile.model_validate(profile)
        return DFTSettings.model_construct(**chosen).described


class PredictionDocument(Document):
    """Error bounds of a predicted minimum, each valid for nine in ten."""

    fmax_bound: float = Field(description="of the largest force on an atom, eV/Å")
    energy_bound: float = Field(description="of the error of the energy, eV")
    rmsd_bound: float = Field(description="of the deviation from the minimum, Å")

    @classmethod
    def of(cls, prediction: Prediction | None) -> Self | None:
        """Return the document of a prediction, if there is one."""
        return cls.model_validate(prediction, from_attributes=True) if prediction else None


class MinimisationDocument(LevelResult, TimedResult):
    """A relaxation at a level of theory, DFT or cheaper, converged or not."""

    kind: Literal["minimisation"] = "minimisation"
    criterion: str = Field(description="the stopping rule in words")
    input: MoleculeDocument
    output: MoleculeDocument = Field(
        description="at the last geometry that was calculated, or at a predicted one"
    )
    energy: float | None = Field(description="eV, of the output; none if no calculation succeeded")
    fmax: float | None = Field(
        description="largest force on an atom of the output, eV/Å; none if not calculated there"
    )
    forces: tuple[Vector, ...] | None = Field(
        description="eV/Å, at the output, without what moves or turns the molecule as a whole; "
        "none if not kept"
    )
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
    thermochemistry: Thermochemistry | None = Field(
        default=None, description="of an ideal gas; none if not asked for"
    )
    trajectory: TrajectoryDocument | None = None

    @property
    def geometry(self) -> MoleculeDocument:
        """The output."""
        return self.output

    @property
    def state(self) -> Literal["converged", "predicted", "not converged"]:
        """How it ended; ``predicted`` means not verified by a calculation."""
        if not self.converged:
            return "not converged"
        return "predicted" if self.prediction else "converged"

    @classmethod
    def from_dft(
        cls, start: Molecule, dft: DFTRelaxation, provenance: Provenance, *, key: str = ""
    ) -> Self:
        """Return the document of a DFT relaxation."""
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
            thermochemistry=dft.thermochemistry,
            **times_by_stage(dft.times),
            trajectory=TrajectoryDocument(
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
        """Return the document of a relaxation at a cheap level."""
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
            **times_by_stage({"total": relaxed.time}),
        )


class StaticDocument(LevelResult, TimedResult):
    """Energy and forces of one geometry."""

    kind: Literal["static"] = "static"
    input: MoleculeDocument
    energy: float = Field(description="eV")
    forces: tuple[Vector, ...] = Field(description="eV/Å")

    @property
    def geometry(self) -> MoleculeDocument:
        """The input."""
        return self.input


class ConformerDocument(LevelResult):
    """A conformer of a molecule."""

    kind: Literal["conformer"] = "conformer"
    molecule: MoleculeDocument
    energy: float = Field(description="eV")
    gibbs_energy: float | None = Field(
        default=None, description="eV, soft vibrations as rotors; none if not asked for"
    )
    thermo: str = Field(default="none", description="level of its Hessian")
    temperature: float = Field(description="of the weight, K")
    weight: float = Field(description="of Boltzmann; those of a molecule add up to 1")
    symmetry_number: int = Field(description="of rotations")
    mirror_images: int = Field(description="2 if its mirror image counts too, else 1")
    n_starts: int = Field(description="number of embeddings and rotated geometries that led here")
    start: str = Field(description="the first of them")

    @property
    def geometry(self) -> MoleculeDocument:
        """The molecule."""
        return self.molecule


ResultDocument: TypeAlias = (
    FailureDocument | RelaxationDocument | MinimisationDocument | StaticDocument | ConformerDocument
)


def _written(molecule: Molecule | None) -> MoleculeDocument | None:
    return MoleculeDocument.from_molecule(molecule) if molecule else None


def times_by_stage(times: Mapping[str, Time]) -> dict[str, Any]:
    """Return the fields of a document with times by stage."""
    return {
        "seconds": {stage: time.wall for stage, time in times.items()},
        "processor_seconds": {stage: time.processor for stage, time in times.items()},
    }


def _known(value: float) -> float | None:
    return None if isnan(value) else value
