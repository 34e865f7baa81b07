"""Relaxation of one molecule with DFT."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from threadpoolctl import threadpool_limits

from diffrelax.clock import NO_TIME, Time
from diffrelax.dft.calculator import calculator_of
from diffrelax.dft.checkpoint import Checkpoint
from diffrelax.dft.descent import Ending, descend, minimise, start_hessian
from diffrelax.dft.optimizers import find_optimizer
from diffrelax.dft.prediction import predict
from diffrelax.dft.recorder import Call, Checker, Recorder
from diffrelax.dft.result import DFTRelaxation, Thermochemistry
from diffrelax.dft.settings import Changes, DFTSettings
from diffrelax.dft.thermochemistry import standard_state, thermochemistry
from diffrelax.errors import InputError
from diffrelax.files.reading import Input, read_one
from diffrelax.levels import check_installed
from diffrelax.levels.profiles import Profile, describe_calculator
from diffrelax.levels.programs import check_program
from diffrelax.molecule.doubts import low_spin
from diffrelax.store import Store, atoms_of, work_key

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

    from diffrelax.molecule import Molecule

Callback = Callable[[int, float, float], None]
# settings that do not change the geometries
SAME_PATH = {"max_steps", "check_minimum", "thermo", "temperature", "pressure", "one_call"}
CHECKPOINT = "dft"  # prefix of their kinds
CONTAMINATED = 0.1
NET_FORCE = 0.1  # eV/Å; that of B3LYP and PBE on grid 3 is below 0.02


def relax_dft(
    molecule: Input,
    settings: DFTSettings | None = None,
    *,
    calculator: Profile | str | os.PathLike[str] | Calculator | None = None,
    threads: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    callback: Callback | None = None,
    **changes: Unpack[Changes],
) -> DFTRelaxation:
    """Relax a molecule with DFT and record its cost.

    The SCF of each step starts from the density of the step before. The optimizer starts from a
    Hessian of a cheap level, which saves most of the gradient calls. If AIMNet2 fails, the Hessian
    of GFN2-xTB is used, and if that fails, the guess of the optimizer; notes say so.

    Parameters
    ----------
    molecule : SMILES, path, Molecule, ase.Atoms or rdkit.Chem.Mol
        One molecule.
    settings : DFTSettings, optional
    calculator : ASE calculator, Profile or path, optional
        Replaces PySCF: an ASE calculator with energies and forces, or the profile of a program, or
        its YAML file. It sets functional, basis and solvent. Charge and multiplicity must also be
        set in an ASE calculator; those of the molecule are used for the Hessian and for checks.
    threads : int, optional
        Threads of PySCF and of linear algebra. Default: those of the environment.
    checkpoint : path, optional
        File for the state after each gradient call and each Hessian, checks of the minimum
        included. Relaxations may share it, see `diffrelax.store`. A relaxation that is found there
        continues along the same path; a finished one can be given more steps or a check of the
        minimum. Stored calls count in its cost. Starts that agree within rounding are the same.
        Orbitals are removed at the end.
    callback : callable, optional
        Called after each gradient call as ``callback(number, energy in eV, fmax in eV/Å)``.
    **changes
        Settings by name, such as ``xc="pbe"``: see `DFTSettings`.

    Returns
    -------
    DFTRelaxation
        Also if the relaxation fails, see ``converged`` and ``reason``.

    Raises
    ------
    ValueError
        If the input is not one molecule or has constraints; if a setting is invalid; if the
        optimizer or the level of the Hessian is not installed; if the functional, basis or solvent
        is unknown or lacks an element; if the profile is invalid or its program is missing; if the
        calculator has no forces or another charge; or if the checkpoint is damaged.
    OSError
        If the checkpoint cannot be read or written.
    """
    level, own = calculator, None
    if not isinstance(calculator, Profile | str | os.PathLike | None):
        level, own = describe_calculator(calculator), calculator
    given = {} if settings is None else settings.model_dump(exclude_defaults=True)
    more = {} if calculator is None else {"calculator": level}
    return relax_with(
        read_one(molecule),
        DFTSettings.among({**given, **changes, **more}),
        calculator=own,
        threads=threads,
        store=None if checkpoint is None else Store(checkpoint),
        callback=callback,
    )


def check_settings(
    settings: DFTSettings, calculator: Calculator | None = None, *, installed: bool = True
) -> None:
    """Check settings before the work begins.

    Parameters
    ----------
    settings : DFTSettings
    calculator : ASE calculator, optional
        Calculator that the settings describe.
    installed : bool
        Whether programs and packages must be installed here.

    Raises
    ------
    ValueError
        If the functional, basis or solvent is unknown, or the optimizer, the level of the Hessian
        or the program is not installed.
    """
    if settings.calculator is None:
        from diffrelax.levels.basis import check_basis  # takes PySCF
        from diffrelax.levels.functionals import read_functional
        from diffrelax.levels.solvents import read_solvent

        read_functional(settings.xc)
        check_basis(settings.basis)
        if settings.solvent:
            read_solvent(settings.solvent)
    if not installed:
        return
    if settings.calculator and calculator is None:
        check_program(settings.calculator)
    find_optimizer(settings.optimizer)
    if settings.hessian != "none":
        check_installed(settings.hessian)


def relax_with(
    molecule: Molecule,
    settings: DFTSettings,
    *,
    calculator: Calculator | None = None,
    threads: int | None = None,
    store: Store | None = None,
    callback: Callback | None = None,
) -> DFTRelaxation:
    """Relax a molecule with DFT, with all settings in one object; see `relax_dft`.

    The settings describe the ASE calculator, if there is one. The store is the ``checkpoint``.
    """
    check_settings(settings, calculator)
    if threads is not None and threads < 1:
        raise InputError(f"threads = {threads}: give 1 or more, or leave it out")
    with ExitStack() as stack:
        stack.enter_context(threadpool_limits(limits=threads))
        kind, begin = _kind(molecule, settings), _begin(molecule, settings, store)
        if begin.key != _key(molecule, settings):
            molecule = molecule.with_positions(begin.calls[0].molecule.positions, molecule.start)
        begun = Time.now()
        level = stack.enter_context(calculator_of(molecule, settings, begin.scf, calculator))

        def now() -> Checkpoint:
            notes = begin.notes
            if lost := recorder.discarded:
                lead = "the checkpoint is from a restart or other settings"
                notes = (*notes, f"{lead}: its {lost} calls are not counted")
            return replace(
                begin,
                notes=notes,
                calls=(*recorder.calls, *recorder.unread),
                checks=tuple(checker.calls),
                hessians=tuple(checker.hessians),
                scf=level.state,
            )

        def save() -> None:
            if store is not None:
                now().keep(store, kind)

        def after_call(call: Call) -> None:
            save()
            if callback:
                callback(len(recorder.calls), call.energy, call.fmax)

        may_end = settings.one_call and begin.hessian is not None
        foresee = partial(predict, fmax=settings.fmax) if may_end else None
        recorder = Recorder(molecule, level, begin.calls, after_call, foresee)
        checker = Checker(molecule, level, begin.checks, begin.hessians, save)
        reason = minimise(recorder, molecule, begin.hessian, settings)
        ending = Ending(reason)
        if not reason and settings.checked_at != "none":
            ending = descend(recorder, settings, checker)
        end = now()
        if store is not None and recorder.calls:
            end.without_orbitals().keep(store, kind)
        recalled = begin.hessian_time + recorder.recalled + checker.recalled
        times = {
            "hessian": begin.hessian_time,
            "dft": recorder.time,
            "check": ending.time + checker.recalled,
            "total": recalled + (Time.now() - begun),
        }
        return _result(molecule, settings, recorder, end, ending, times)


def find_begun(molecule: Molecule, settings: DFTSettings, store: Store) -> Checkpoint | None:
    """Find an unfinished or finished relaxation of a molecule in a store.

    Its number of steps and its check of the minimum may differ.
    """
    return Checkpoint.find(store, _kind(molecule, settings), molecule)


def _kind(molecule: Molecule, settings: DFTSettings) -> str:
    """Return the kind of the relaxations of a molecule from all geometries."""
    return f"{CHECKPOINT} {work_key('dft', atoms_of(molecule), _path_settings(settings))}"


def _key(molecule: Molecule, settings: DFTSettings) -> str:
    return work_key("dft", molecule, _path_settings(settings))


def _path_settings(settings: DFTSettings) -> dict[str, Any]:
    """Return the settings that determine the geometries of a relaxation."""
    left_out = SAME_PATH.copy()
    if find_optimizer(settings.optimizer).same_path:
        left_out.add("fmax")
    return settings.model_dump(exclude=left_out)


def _begin(molecule: Molecule, settings: DFTSettings, store: Store | None) -> Checkpoint:
    if store is not None and (begun := find_begun(molecule, settings, store)):
        return begun
    key = _key(molecule, settings)
    if settings.hessian == "none":
        return Checkpoint(key, None, NO_TIME, ())
    started = Time.now()
    hessian, notes = start_hessian(molecule, settings)
    return Checkpoint(key, hessian, Time.now() - started, notes)


def _result(
    molecule: Molecule,
    settings: DFTSettings,
    recorder: Recorder,
    end: Checkpoint,
    ending: Ending,
    times: dict[str, Time],
) -> DFTRelaxation:
    calls, notes, curvature = recorder.calls, (*end.notes, *ending.notes), ending.curvature
    prediction = recorder.prediction
    if doubt := low_spin(molecule):
        notes = (*notes, doubt)
    if end.scf and end.scf.second_order:
        notes = (*notes, "the SCF needed second-order SCF to converge")
    if end.scf and end.scf.contamination > CONTAMINATED:
        notes = (*notes, f"⟨S²⟩ is {end.scf.contamination:.2f} above the value for multiplicity "
            f"{molecule.multiplicity}: the state is spin-contaminated")  # fmt: skip
    if settings.calculator and settings.calculator.program == "ase":
        notes = (*notes, "charge, multiplicity and solvent are set by the ASE calculator")
    net = float(np.linalg.norm(calls[-1].forces.sum(axis=0))) if calls else 0.0
    if net > NET_FORCE:
        grid = "its grid" if settings.calculator else f"integration grid {settings.grid_level}"
        notes = (*notes, f"the forces add up to {net:.2g} eV/Å, not to zero: {grid} is too coarse "
                 f"for {settings.xc}")  # fmt: skip
    gas = _thermochemistry(calls[-1], settings, ending) if calls else None
    if gas and (left := [-found for found in gas.frequencies if found < 0]):
        text = (
            f"an imaginary frequency of {left[0]:.0f} cm⁻¹ is treated as real in the free energies"
        )
        notes = (*notes, text)
    if gas and settings.solvent and (note := standard_state(gas.temperature, gas.pressure)):
        notes = (*notes, note)
    if prediction:
        notes = (*notes, f"predicted, not verified: {prediction.described}")
    return DFTRelaxation(
        molecule=(prediction or calls[-1]).molecule if calls else molecule,
        converged=not ending.reason,
        reason=ending.reason,
        energies=tuple(call.energy for call in calls),
        trajectory=np.array([c.molecule.positions for c in calls]).reshape(-1, molecule.n_atoms, 3),
        all_forces=np.array([c.internal_forces for c in calls]).reshape(-1, molecule.n_atoms, 3),
        scf_cycles=None if settings.calculator else recorder.scf_cycles,
        times=times,
        criterion=find_optimizer(settings.optimizer).criterion(settings.fmax)
        + (", or predicted to be" if settings.one_call else ""),
        prediction=prediction,
        notes=notes,
        settings=settings,
        lowest_frequency=curvature.lowest if curvature else None,
        thermochemistry=gas,
    )


def _thermochemistry(call: Call, settings: DFTSettings, ending: Ending) -> Thermochemistry | None:
    known = ending.curvature or call.molecule.n_atoms == 1
    if settings.thermo == "none" or ending.reason or not known:
        return None
    return thermochemistry(
        call.molecule,
        ending.curvature.frequencies.tolist() if ending.curvature else [],
        call.energy,
        temperature=settings.temperature,
        pressure=settings.pressure,
    )
