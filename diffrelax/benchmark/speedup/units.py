"""Units of work of a speed-up measurement; each is done only once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from math import isnan
from typing import Any, NamedTuple

from diffrelax.benchmark.hardware import describe_dft_hardware, name_processor
from diffrelax.benchmark.sample import peer_settings
from diffrelax.benchmark.speedup.arms import Subject
from diffrelax.clock import NO_TIME, Time
from diffrelax.dft import DFTSettings
from diffrelax.dft.optimization import Callback, find_begun, relax_with
from diffrelax.errors import reason_of
from diffrelax.extras import NotInstalledError
from diffrelax.levels import CHEAP_LEVELS, relax_at_level
from diffrelax.levels.level import Level
from diffrelax.levels.pyscf_library import pyscf_threads
from diffrelax.levels.running import KilledError
from diffrelax.models.release import Model, load_model
from diffrelax.molecule import Molecule
from diffrelax.relaxation import relax_molecules
from diffrelax.results.documents import (
    FailureDocument,
    MinimisationDocument,
    RelaxationDocument,
    ResultDocument,
    TimedResult,
)
from diffrelax.results.provenance import Provenance
from diffrelax.results.stored import read_finished, write_finished
from diffrelax.store import Store, work_key

START_FMAX = 0.03  # eV/Å
START_STEPS = 500


def start_unit(
    base: Molecule,
    start: str,
    settings: Mapping[str, Any],
    *,
    model: Model | None = None,
    level: str | None = None,
    key: str = "",
) -> ResultDocument:
    """Calculate the start of an arm.

    Parameters
    ----------
    base : Molecule
        Molecule at the geometry that is relaxed.
    start : str
        ``"diffusion"``, or a level of theory at which the base is relaxed.
    settings : mapping
        Settings of that level, see `diffrelax.levels.get_calculator`.
    model : Model, optional
        The diffusion model.
    level : str, optional
        Level of theory that the model relaxes to.
    key : str
    """
    if model:
        provenance = Provenance.here(model=model)
        (relaxation,) = relax_molecules([base], model, level=level)
        return RelaxationDocument.from_relaxation(relaxation, provenance, key=key)
    limits: dict[str, Any] = {"fmax": START_FMAX, "max_steps": START_STEPS}
    try:
        relaxed = relax_at_level(base, start, **limits, **settings)
        reason = relaxed.reason if isnan(relaxed.energy) else ""
    except NotInstalledError:
        raise
    except ValueError as error:
        reason = str(error)
    if reason:  # the level or its program failed; another try may succeed
        return FailureDocument.here(
            base.name, reason, stage=f"start {start}", source=base.smiles, key=key
        )
    document = MinimisationDocument.from_level(
        base, relaxed, Provenance.here(), level=start, **limits, key=key
    )
    return document.model_copy(update={"settings": document.settings | dict(settings)})


def dft_unit(
    molecule: Molecule,
    settings: DFTSettings,
    *,
    threads: int | None = None,
    store: Store | None = None,
    callback: Callback | None = None,
    key: str = "",
) -> MinimisationDocument | FailureDocument:
    """Relax a molecule with DFT; intermediate geometries are not kept.

    Parameters
    ----------
    molecule : Molecule
    settings : DFTSettings
    threads, callback
        See `diffrelax.dft.relax_dft`.
    store : Store, optional
        Store of the checkpoint. A resumed relaxation has no hardware entry, since it may have run
        on two machines; that of an external program is the processor only.
    key : str
        Key of this unit.
    """
    resumed = store is not None and find_begun(molecule, settings, store) is not None
    try:
        dft = relax_with(molecule, settings, threads=threads, store=store, callback=callback)
    except NotInstalledError:
        raise
    except (KilledError, ValueError) as error:
        return FailureDocument.here(
            molecule.name, str(error), stage="dft", source=molecule.smiles, key=key
        )
    if resumed:
        hardware = ""
    elif settings.calculator:
        hardware = name_processor()
    else:
        hardware = describe_dft_hardware(threads or pyscf_threads())
    provenance = Provenance.here(hardware=hardware)
    document = MinimisationDocument.from_dft(molecule, dft, provenance, key=key)
    assert document.trajectory is not None
    way = document.trajectory.model_copy(update={"positions": ()})
    return document.model_copy(update={"trajectory": way})


@cache
def _model(name: str) -> Model:
    return load_model(name)


class Start(NamedTuple):
    """The start of an arm, its time, and the reason if there is no molecule."""

    molecule: Molecule | None
    time: Time
    reason: str = ""


class Units:
    """Does units of work in this process, or reads finished ones.

    Parameters
    ----------
    work : Store
    model : str
        Name or file of the diffusion model.
    level : Level, optional
        Level of DFT; the model relaxes to the nearest level that it has learned.
    threads, callback
        See `diffrelax.dft.relax_dft`.
    made : mapping of str to Start
        Existing starts of a single subject, with their times.

    Attributes
    ----------
    calculated : int
        Number of units that were calculated, not read.
    """

    def __init__(
        self,
        work: Store,
        model: str = "",
        level: Level | None = None,
        threads: int | None = None,
        *,
        callback: Callback | None = None,
        made: Mapping[str, Start] = {},
    ) -> None:
        self.work = work
        self.calculated = 0
        self._model = model
        self._level = level
        self._threads = threads
        self._callback = callback
        self._made = made

    def start(self, subject: Subject, start: str) -> Start:
        """Return the start of an arm.

        Raises
        ------
        ValueError
            If the diffusion model is needed and cannot be loaded.
        """
        base = subject.base
        if base is None:
            return Start(None, NO_TIME, subject.reason)
        if start in self._made:
            return self._made[start]
        if start in subject.known:
            return Start(subject.known[start], NO_TIME)
        if start == base.start:
            return Start(base, NO_TIME)
        diffusion = start == "diffusion"
        if not diffusion and start not in CHEAP_LEVELS:
            return Start(None, NO_TIME, f"there is no start {start}")
        settings = {} if diffusion else peer_settings(start)
        model = _model(self._model) if diffusion else None
        level = model.nearest_level(self._level).level if model and self._level else None
        if model and level not in (None, model.config.level):
            settings = {"level": level}
        key = work_key(
            "start",
            base,
            {"start": start, "fmax": START_FMAX, "max_steps": START_STEPS, **settings},
            model_sha256=model.sha256 if model else "",
        )
        document = self._do(
            key,
            subject.name,
            lambda: start_unit(base, start, settings, model=model, level=level, key=key),
        )
        return _start_of(document, start)

    def relax(
        self, molecule: Molecule, settings: DFTSettings
    ) -> MinimisationDocument | FailureDocument:
        """Return the DFT relaxation of a molecule."""
        key = work_key("dft", molecule, settings.model_dump())
        document = self._do(
            key,
            molecule.name,
            lambda: dft_unit(
                molecule,
                settings,
                threads=self._threads,
                store=self.work,
                callback=self._callback,
                key=key,
            ),
        )
        assert isinstance(document, (MinimisationDocument, FailureDocument))
        return document

    def _do(self, key: str, name: str, unit: Callable[[], ResultDocument]) -> ResultDocument:
        """Read or do a unit; failed units are not stored, so they are tried again."""

        def count() -> ResultDocument:
            document = unit()
            self.calculated += 1
            return document

        try:
            return self.work.find_or_do(key, count, read_finished, write_finished)
        except (OSError, ImportError):  # faults of the machine
            raise
        except Exception as error:  # a failed molecule does not affect the rest
            return FailureDocument.here(name, reason_of(error), stage="unit", key=key)


def _start_of(document: ResultDocument, start: str) -> Start:
    time = document.times["total"] if isinstance(document, TimedResult) else NO_TIME
    if isinstance(document, RelaxationDocument) and document.verdict != "relaxed":
        return Start(None, time, f"{document.verdict} by the model: {document.reason}")
    if isinstance(document, MinimisationDocument) and not document.converged:
        return Start(None, time, f"{start}: {document.reason}")
    if isinstance(document, (MinimisationDocument, RelaxationDocument)) and document.output:
        return Start(document.output.to_molecule(), time)
    return Start(None, time, document.reason)
