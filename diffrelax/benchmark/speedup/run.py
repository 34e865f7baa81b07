"""Paired DFT relaxations of every molecule in every arm, with assignment of minima."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from pydantic import TypeAdapter

from diffrelax.benchmark.speedup.arms import SpeedupArm, Subject
from diffrelax.benchmark.speedup.units import Units
from diffrelax.clock import Time
from diffrelax.dft import DFTSettings
from diffrelax.molecule import Molecule
from diffrelax.molecule.comparison import same_minimum
from diffrelax.molecule.identity import identity_change
from diffrelax.progress import progress_bar
from diffrelax.results.documents import FailureDocument, MinimisationDocument
from diffrelax.results.molecules import Written
from diffrelax.units import KCAL_PER_MOL

STOPPED_EARLY = 0.5 * KCAL_PER_MOL  # eV above its minimum; higher ends count as no minimum
REFERENCE_FMAX = 0.003  # eV/Å
REFERENCE_STEPS = 100
# means of 737 relaxations of 5 to 9 heavy atoms (analysis/results), and a fit to their times
CALLS_WITHOUT_HESSIAN, CALLS_WITH_HESSIAN, CALLS_TO_REFERENCE = 12, 4, 6
SECONDS_OF_100_FUNCTIONS, LEAST_SECONDS = 3.0, 0.5


@dataclass(frozen=True, eq=False)
class Outcome:
    """Result of one molecule in one arm.

    Parameters
    ----------
    name, smiles : str
        Name and SMILES of the molecule.
    arm : SpeedupArm
    reason : str
        Why there is no minimum, or no reference for it; empty otherwise.
    times : dict of str to Time
        By stage: ``embedding`` (and force field), ``start``, ``hessian``, ``dft``, and ``total``.
    energies : tuple of float, eV
        One for each gradient call.
    predicted_energy : float or None, eV
        Energy of the predicted minimum, if the relaxation ended with one.
    first_fmax, first_rms_force : float or None, eV/Å
        Largest and root mean square force on an atom at the start; None if not known.
    scf_cycles : int
        Number of SCF cycles; 0 if the program does not report them.
    begin, end : Molecule or None
        Molecule at the start and at the minimum; None if there is none.
    relaxation : MinimisationDocument or None
        The DFT relaxation, if there is one.
    notes : tuple of str
        Deviations from the settings.
    hardware : str
        Processor and threads of the DFT relaxation; empty if not known.
    git_commit : str
        Commit of the code that ran the DFT relaxation; empty if not known.
    basin : int or None
        Index of the reference minimum, counted from 0 for each molecule.
    minimum : float or None, eV
        Energy of the reference minimum.
    repeated : bool
        Whether the molecule is a repetition of an earlier one, and is not counted.
    """

    name: str
    smiles: str
    arm: SpeedupArm
    reason: str
    times: dict[str, Time] = field(default_factory=dict)
    energies: tuple[float, ...] = ()
    predicted_energy: float | None = None
    first_fmax: float | None = None
    first_rms_force: float | None = None
    scf_cycles: int = 0
    begin: Written | None = None
    end: Written | None = None
    relaxation: MinimisationDocument | None = None
    notes: tuple[str, ...] = ()
    hardware: str = ""
    git_commit: str = ""
    basin: int | None = None
    minimum: float | None = None
    repeated: bool = False

    @property
    def converged(self) -> bool:
        """Whether a minimum of the same molecule was reached."""
        return self.end is not None

    @property
    def remarks(self) -> str:
        """Reason and notes; empty if there are none."""
        return "; ".join(filter(None, (self.reason, *self.notes)))

    @property
    def calls(self) -> int:
        """Number of gradient calls, including the first."""
        return len(self.energies)

    @property
    def largest_forces(self) -> tuple[float, ...]:
        """Largest force on an atom at each gradient call, eV/Å; empty if not stored."""
        kept = self.relaxation and self.relaxation.trajectory
        return kept.fmaxes if kept else ()

    @property
    def end_energy(self) -> float:
        """Final energy, eV."""
        return self.energies[-1] if self.predicted_energy is None else self.predicted_energy

    @property
    def excess(self) -> float | None:
        """Energy of the start above its reference minimum, eV; None if unknown."""
        return None if self.minimum is None else self.energies[0] - self.minimum


OUTCOMES = TypeAdapter(Outcome)  # serialises and parses outcomes


class Basin(NamedTuple):
    """A reference minimum, energy in eV."""

    molecule: Molecule
    energy: float


def compare_arms(
    subjects: Sequence[Subject],
    arms: Sequence[SpeedupArm],
    level: DFTSettings,
    units: Units,
    *,
    progress: bool = False,
) -> Iterator[list[Outcome]]:
    """Relax every molecule in every arm.

    Parameters
    ----------
    subjects : sequence of Subject
    arms : sequence of SpeedupArm
    level : DFTSettings
        Each arm has its own optimizer and Hessian; reference minima use the optimizer given here.
    units : Units
        Does the work or reads finished work, so that the same call resumes.
    progress : bool
        Whether to show a progress bar on standard error, with an estimate of the time left.

    Yields
    ------
    list of Outcome
        For each subject, one outcome per arm.
    """
    total = len(subjects) * len(arms)
    with progress_bar(total, "arm", show=progress, smoothing=0) as bar:
        for subject in subjects:
            outcomes = []
            for arm in arms:
                bar.set_description(f"{subject.name}: {arm}")
                before = units.calculated
                outcomes.append(run_arm(subject, arm, level, units))
                if units.calculated == before:
                    total -= 1  # finished units would distort the estimate of the time left
                    bar.total = total
                else:
                    bar.update()
            yield assign_basins(outcomes, lambda end: units.relax(end, reference_settings(level)))


def estimate_seconds(
    subjects: Sequence[Subject], arms: Sequence[SpeedupArm], level: DFTSettings
) -> float:
    """Estimate the processor time of a comparison with its tight relaxations, s.

    A rough estimate: the time of a gradient call is proportional to the cube of the number of basis
    functions; functional and processor are not considered.
    """
    from diffrelax.levels.basis import count_functions  # imports PySCF

    calls = CALLS_TO_REFERENCE
    for arm in arms:
        guided = arm.settings(level).hessian != "none"
        calls += CALLS_WITH_HESSIAN if guided else CALLS_WITHOUT_HESSIAN
    seconds = 0.0
    for subject in subjects:
        with suppress(ValueError):  # the basis lacks an element, which the report notes
            numbers = subject.base.numbers if subject.base else ()
            size = count_functions(numbers, level.basis) / 100
            seconds += calls * max(SECONDS_OF_100_FUNCTIONS * size**3, LEAST_SECONDS * bool(size))
    return seconds


def reference_settings(level: DFTSettings) -> DFTSettings:
    """Return the settings of the tight relaxations to reference minima."""
    return level.model_copy(
        update={
            "fmax": min(REFERENCE_FMAX, level.fmax),
            "hessian": "gfn2-xtb",
            "max_steps": REFERENCE_STEPS,
            "one_call": False,
        }
    )


def run_arm(subject: Subject, arm: SpeedupArm, level: DFTSettings, units: Units) -> Outcome:
    """Relax one molecule in one arm; a failure is the reason of the outcome."""
    start = units.start(subject, arm.start)
    spent = {"embedding": subject.time, "start": start.time, "total": subject.time + start.time}
    smiles = subject.base.smiles if subject.base else ""
    begun = Outcome(
        subject.name,
        smiles,
        arm,
        start.reason,
        spent,
        begin=start.molecule,
        repeated=subject.repeated,
    )
    if start.molecule is None:
        return begun
    document = units.relax(start.molecule, arm.settings(level))
    if isinstance(document, FailureDocument):
        return replace(begun, reason=document.reason)
    return _outcome(begun, subject, document)


def _outcome(begun: Outcome, subject: Subject, document: MinimisationDocument) -> Outcome:
    assert subject.base is not None and document.trajectory is not None
    end, reason = None, document.reason
    if document.converged:
        end = document.output.to_molecule()
        from_base = begun.arm.start not in subject.known
        if from_base and (change := identity_change(subject.base, end.positions)):
            end, reason = None, f"identity lost: {change}"
    times = begun.times | {
        "hessian": document.times["hessian"],
        "dft": document.times["dft"],
        "total": begun.times["total"] + document.times["total"],
    }
    return replace(
        begun,
        reason=reason,
        times=times,
        energies=document.trajectory.energies,
        predicted_energy=document.energy if document.prediction else None,
        first_fmax=next(iter(document.trajectory.fmaxes), None),
        first_rms_force=next(iter(document.trajectory.rms_forces), None),
        scf_cycles=document.scf_cycles or 0,
        end=end,
        relaxation=document,
        notes=document.notes,
        hardware=document.provenance.hardware,
        git_commit=document.provenance.git_commit,
    )


def assign_basins(
    outcomes: Sequence[Outcome],
    relax: Callable[[Molecule], MinimisationDocument | FailureDocument],
) -> list[Outcome]:
    """Assign the outcomes of one molecule to reference minima.

    A final geometry that matches no reference in geometry and energy (see
    `diffrelax.molecule.comparison.same_minimum`) is relaxed tightly, and the result becomes a
    reference. Each outcome belongs to the reference that it matches; otherwise to the one that it
    relaxed to, with a note that it stopped before the minimum. If it stopped more than
    0.5 kcal/mol above, as at a saddle point, it belongs to none.

    Parameters
    ----------
    outcomes : sequence of Outcome
    relax : callable
        Relaxes a molecule tightly.
    """
    basins: list[Basin] = []
    fallen: dict[int, int] = {}
    reasons: dict[int, str] = {}
    for i, outcome in enumerate(outcomes):
        if outcome.end is None or _find(basins, outcome.end, outcome.end_energy) is not None:
            continue
        document = relax(outcome.end)
        if isinstance(document, FailureDocument) or not document.converged:
            reasons[i] = f"no reference minimum: {document.reason}"
            continue
        assert document.energy is not None
        basin = Basin(document.output.to_molecule(), document.energy)
        number = _find(basins, *basin)
        if number is None:
            number = len(basins)
            basins.append(basin)
        fallen[i] = number
    return [
        _assign(outcome, basins, fallen.get(i), reasons.get(i, ""))
        for i, outcome in enumerate(outcomes)
    ]


def _assign(outcome: Outcome, basins: Sequence[Basin], fallen: int | None, reason: str) -> Outcome:
    if outcome.end is None:
        return outcome
    number = _find(basins, outcome.end, outcome.end_energy)
    if number is not None:
        return replace(outcome, basin=number, minimum=basins[number].energy)
    if fallen is None:
        return replace(outcome, reason=reason)
    if (above := outcome.end_energy - basins[fallen].energy) > STOPPED_EARLY:
        reason = f"stopped {above / KCAL_PER_MOL:.1f} kcal/mol above its reference minimum"
        return replace(outcome, reason=reason)
    notes = (*outcome.notes, "stopped on the way to its reference minimum")
    return replace(outcome, basin=fallen, minimum=basins[fallen].energy, notes=notes)


def _find(basins: Sequence[Basin], molecule: Molecule, energy: float) -> int | None:
    for i, basin in enumerate(basins):
        if same_minimum(basin.molecule, molecule, energy - basin.energy):
            return i
    return None
