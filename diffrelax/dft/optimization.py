"""Relaxation of one molecule with DFT."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from ase.calculators.calculator import CalculationFailed
from threadpoolctl import threadpool_limits

from diffrelax.cache import WorkFolder, work_key
from diffrelax.clock import NO_TIME, Time
from diffrelax.dft import minimum
from diffrelax.dft.checkpoint import Checkpoint
from diffrelax.dft.hessian import (
    gfn2_hessian,
    positive_hessian,
    softest_curvature,
)
from diffrelax.dft.internal import geometric, tric
from diffrelax.dft.minimisers import Minimiser, bfgs, check_optimizer, criterion, sella
from diffrelax.dft.recorder import Call, Recorder
from diffrelax.dft.result import DFTRelaxation
from diffrelax.dft.settings import DFTSettings, HessianLevel, Optimizer
from diffrelax.files.reading import Input, read_one
from diffrelax.levels import check_installed
from diffrelax.levels.density_functional import (
    DensityFunctional,
    check_basis,
    mean_field,
)
from diffrelax.levels.functionals import read_functional
from diffrelax.molecule.identity import identity_change

if TYPE_CHECKING:
    from diffrelax.molecule import Molecule

Callback = Callable[[int, float, float], None]
MINIMISERS: dict[str, Minimiser] = {
    "tric": tric,
    "bfgs": bfgs,
    "geometric": geometric,
    "sella": sella,
}
NOT_THE_WAY = {"max_steps", "check_minimum"}  # settings that leave the geometries as they are
NET_FORCE = 0.1  # eV/Å; that of B3LYP and PBE on grid 3 is below 0.02


def relax_dft(
    molecule: Input,
    *,
    xc: str = "b3lyp",
    basis: str = "6-31G(2df,p)",
    fmax: float = 0.03,
    optimizer: Optimizer = "tric",
    hessian: HessianLevel = "gfn2-xtb",
    density_fit: bool = True,
    grid_level: int = 3,
    max_steps: int = 200,
    check_minimum: Literal["none", "gfn2-xtb", "dft"] = "none",
    threads: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    callback: Callback | None = None,
) -> DFTRelaxation:
    """Relax a molecule with DFT and count what it costs.

    The SCF of each step starts from the density of the step before. The optimizer starts from a
    Hessian of a cheap level, which saves most of the gradient calls; where that level cannot give
    one, the optimizer's own guess is used and a note says so.

    Parameters
    ----------
    molecule : SMILES, path, Molecule, ase.Atoms or rdkit.Chem.Mol
        One molecule.
    xc, basis, fmax, optimizer, hessian, density_fit, grid_level, max_steps, check_minimum
        See `DFTSettings`.
    threads : int, optional
        Threads of PySCF and of linear algebra. Default: as the environment has it.
    checkpoint : path, optional
        File in which the state is kept after each gradient call. If it exists, the relaxation goes
        on from there, along the same path, for more steps or a check of the minimum if it has come
        to its end; costs of both lives are counted. It stays at the end, without the orbitals.
    callback : callable, optional
        Called after each gradient call as ``callback(number, energy in eV, fmax in eV/Å)``.

    Returns
    -------
    DFTRelaxation
        Also if something went wrong on the way: see its ``converged`` and ``reason``.

    Raises
    ------
    ValueError
        If the input is not one molecule, a setting is invalid, the optimizer or the level of the
        Hessian is not installed, the functional or basis is unknown, or lacks an element, or if the
        checkpoint belongs to another molecule or to other settings.
    OSError
        If the folder of the checkpoint does not exist.
    """
    settings = DFTSettings(
        xc=xc,
        basis=basis,
        fmax=fmax,
        optimizer=optimizer,
        hessian=hessian,
        density_fit=density_fit,
        grid_level=grid_level,
        max_steps=max_steps,
        check_minimum=check_minimum,
    )
    return relax_with(
        read_one(molecule),
        settings,
        threads=threads,
        checkpoint=None if checkpoint is None else Path(checkpoint),
        callback=callback,
    )


def check_settings(settings: DFTSettings) -> None:
    """Find out whether relaxations can be run with these settings, before the work begins.

    Raises
    ------
    ValueError
        If the functional or the basis is unknown, or the optimizer or the level of the Hessian not
        installed.
    """
    read_functional(settings.xc)
    check_basis(settings.basis)
    check_optimizer(settings.optimizer)
    if settings.hessian != "none":
        check_installed(settings.hessian)


def relax_with(
    molecule: Molecule,
    settings: DFTSettings,
    *,
    threads: int | None = None,
    checkpoint: Path | None = None,
    callback: Callback | None = None,
) -> DFTRelaxation:
    """Relax a molecule with DFT as `relax_dft` does, with its settings in one object."""
    started = Time.now()
    check_settings(settings)
    level = settings.model_dump(include={"xc", "basis", "density_fit", "grid_level"})
    calculator = DensityFunctional(mean_field(molecule, **level))
    with threadpool_limits(limits=threads):
        begin = _begin(molecule, settings, checkpoint)
        if begin.scf:
            calculator.resume(begin.scf)

        def now() -> Checkpoint:
            time = begin.time + (Time.now() - started)
            notes = begin.notes
            if lost := recorder.discarded:
                notes = (*notes, f"took another path after a restart: {lost} earlier calls count "
                         "only in the SCF cycles and the total time")  # fmt: skip
            return replace(
                begin, notes=notes, calls=tuple(recorder.calls), scf=calculator.state, time=time
            )

        def after_call(call: Call) -> None:
            if checkpoint:
                now().save(checkpoint)
            if callback:
                callback(len(recorder.calls), call.energy, call.fmax)

        recorder = Recorder(molecule, calculator, begin.calls, after_call)
        reason = _minimise(recorder, molecule, begin.hessian, settings)
        end = now()
        if checkpoint and end.calls:
            end.without_orbitals().save(checkpoint)
        result = _result(molecule, settings, recorder, end, reason)
        asked = settings.check_minimum != "none" and molecule.n_atoms > 1
        return minimum.check(result, calculator) if asked and result.converged else result


def unit_checkpoint(work: WorkFolder, key: str, molecule: Molecule, settings: DFTSettings) -> Path:
    """Return the file from which a unit of work goes on, and in which it keeps its state.

    Units that differ in the number of steps or in the check of the minimum share it, so that none
    begins anew. Where another has gone further than these settings allow, a unit has its own.

    Parameters
    ----------
    work : WorkFolder
    key : str
        Of the unit.
    molecule : Molecule
    settings : DFTSettings

    Raises
    ------
    ValueError
        If it is damaged.
    """
    way = _way(molecule, settings)
    shared = work.checkpoint(way)
    try:
        calls = Checkpoint.load(shared, way, molecule).calls
    except FileNotFoundError:
        return shared
    return shared if len(calls) <= settings.max_steps + 1 else work.checkpoint(key)


def _way(molecule: Molecule, settings: DFTSettings) -> str:
    return work_key("dft", molecule, settings.model_dump(exclude=NOT_THE_WAY))


def _begin(molecule: Molecule, settings: DFTSettings, checkpoint: Path | None) -> Checkpoint:
    key = _way(molecule, settings)
    if checkpoint:
        with suppress(FileNotFoundError):
            begin = Checkpoint.load(checkpoint, key, molecule)
            if len(begin.calls) > settings.max_steps + 1:
                raise ValueError(
                    f"the checkpoint {checkpoint} has {len(begin.calls)} gradient calls: allow "
                    f"max_steps={len(begin.calls) - 1} or more, or name another file"
                )
            return begin
    if checkpoint and not checkpoint.parent.is_dir():
        raise FileNotFoundError(f"the folder {checkpoint.parent} does not exist: create it first")
    if settings.hessian == "none":
        return Checkpoint(key, None, NO_TIME, ())
    started = Time.now()
    hessian, notes = _start_hessian(molecule, settings)
    return Checkpoint(key, hessian, Time.now() - started, notes)


def _start_hessian(
    molecule: Molecule, settings: DFTSettings
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    try:
        if settings.hessian == "aimnet2":
            from diffrelax.levels.aimnet2 import AIMNet2  # torch is slow to import

            hessian = AIMNet2(molecule).hessian(molecule.to_atoms())
        else:
            hessian = gfn2_hessian(molecule)
    except (RuntimeError, ValueError) as error:
        missing = f"no {settings.hessian} Hessian"
        return None, (f"{missing}, the optimizer's own guess instead: {error}",)
    floor = softest_curvature(settings.fmax, settings.optimizer)
    return positive_hessian(hessian, molecule.positions, floor), ()


def _minimise(
    recorder: Recorder, molecule: Molecule, hessian: np.ndarray | None, settings: DFTSettings
) -> str:
    atoms = molecule.to_atoms()
    atoms.calc = recorder
    # a single atom has no internal coordinates
    minimise = MINIMISERS[settings.optimizer] if molecule.n_atoms > 1 else bfgs
    try:
        reason = minimise(atoms, hessian, settings.fmax, settings.max_steps)
    except CalculationFailed as error:
        return f"gradient call {len(recorder.calls) + 1} failed: {error}"
    finally:
        if recorder.error:
            raise recorder.error
    calls = recorder.calls
    if reason and calls and calls[-1].energy > min(call.energy for call in calls):
        return f"{reason}; an earlier geometry has a lower energy than the last"
    if not reason and (change := identity_change(molecule, calls[-1].molecule.positions)):
        return f"identity lost: {change}"
    return reason


def _result(
    molecule: Molecule, settings: DFTSettings, recorder: Recorder, end: Checkpoint, reason: str
) -> DFTRelaxation:
    assert end.scf is not None
    calls, notes = end.calls, end.notes
    if end.scf.second_order:
        notes = (*notes, "the SCF needed second-order SCF to converge")
    net = float(np.linalg.norm(calls[-1].forces.sum(axis=0))) if calls else 0.0
    if net > NET_FORCE:
        notes = (*notes, f"the forces add up to {net:.2g} eV/Å, not to zero: integration grid "
                 f"{settings.grid_level} is too coarse for {settings.xc}")  # fmt: skip
    return DFTRelaxation(
        molecule=calls[-1].molecule if calls else molecule,
        converged=not reason,
        reason=reason,
        energies=tuple(call.energy for call in calls),
        trajectory=np.array([c.molecule.positions for c in calls]).reshape(-1, molecule.n_atoms, 3),
        all_forces=np.array([c.forces for c in calls]).reshape(-1, molecule.n_atoms, 3),
        scf_cycles=end.scf.cycles,
        times={
            "hessian": end.hessian_time,
            "dft": recorder.time,
            "check": NO_TIME,
            "total": end.time,
        },
        criterion=criterion(settings.optimizer, settings.fmax),
        notes=notes,
        settings=settings,
    )
