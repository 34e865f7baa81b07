"""From starts to the minima of a level of theory and their weights."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from math import inf, isnan
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import JsonValue
from tqdm.auto import tqdm

from diffrelax.cache import Unit, WorkFolder, work_key
from diffrelax.dft import DFTSettings
from diffrelax.dft.optimization import relax_with
from diffrelax.files.reading import Input, read_one
from diffrelax.levels import get_calculator, relax_at_level
from diffrelax.levels.force_field import KCAL_PER_MOL
from diffrelax.levels.solvents import born_solvation
from diffrelax.models.release import Model
from diffrelax.molecule import Molecule
from diffrelax.molecule.checks import integer
from diffrelax.molecule.embedding import check_seed
from diffrelax.molecule.identity import has_enantiomer
from diffrelax.molecule.symmetry import find_symmetry
from diffrelax.sampling.conformers.record import Conformer, merge, within
from diffrelax.sampling.conformers.search import COUNTED, ROUGH, Found, find_conformers
from diffrelax.sampling.ensemble import (
    Ensemble,
    EnsembleProvenance,
    Level,
    boltzmann_weights,
    check_temperature,
)

UNLIKE = 4 * KCAL_PER_MOL  # by which GFN2-xTB at geometries of the model may be wrong
NEAR = 0.05  # eV/Å, at which duplicates show
STILL = 0.5 * KCAL_PER_MOL  # that a geometry as near may fall
FMAX = 0.002  # eV/Å; at 0.01, floppy molecules end up to 0.2 Å from their minimum, and count twice


def sample_conformers(
    molecule: Input,
    model: Model,
    n: int = 1000,
    *,
    level: str | Level = "gfn2-xtb",
    window: float = 6.0,
    temperature: float = 298.15,
    seed: int = 42,
    work: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> Ensemble:
    """Find the conformers of a molecule and their Boltzmann weights at a level of theory.

    A search finds distinct geometries with the model, see
    `diffrelax.sampling.conformers.find_conformers`. Those that may end within the window are
    brought near their minima at the level of theory, merged, and those that are low relaxed
    tightly, always as the same molecule; what ends above the window is left out. Mirror images of
    each other are one conformer, unless they are different molecules; a conformer of a chiral
    molecule has the configuration of the input.

    The weight of a conformer is proportional to (m/s) exp(−E/kT), with the electronic energy E, the
    rotational symmetry number s of its rigid geometry with all hydrogens, and m = 2 if it is chiral
    and the molecule is not, else 1. So the trans-trans conformer of pentane (s = 2) counts a
    quarter of a trans-gauche one (m = 2) of the same energy. Vibrations and moments of inertia are
    left out.

    Parameters
    ----------
    molecule : SMILES, path, Molecule, ase.Atoms or rdkit.Chem.Mol
        One molecule. Its own geometry is the first start.
    model : Model
        See :func:`diffrelax.load_model`.
    n : int
        Geometries that the model relaxes, at most. Where that ends the search, a note says so.
    level : str or Level
        One of `diffrelax.levels.LEVELS`; a `Level` to change its settings.
    window : float, kcal/mol
        Above the lowest conformer.
    temperature : float, K
    seed : int
        Of the embeddings.
    work : path, optional
        Folder that keeps finished relaxations at the level of theory: a call that was interrupted
        and is made again goes on from there.
    progress : bool
        Show a progress bar on standard error.

    Returns
    -------
    Ensemble
        By rising energy. The columns are ``symmetry_number`` (s), ``mirror_images`` (m) and
        ``n_starts``, by how many embeddings and turned geometries each was found. What became of
        all that were tried is in ``provenance.diagnostics`` and in words the first of
        ``provenance.notes``, followed by what failed.

    Raises
    ------
    ValueError
        If the input is not one molecule that the model covers, ``n``, the window, the temperature
        or the seed is out of range, or the level is unknown, not installed, or cannot describe the
        molecule.
    RuntimeError
        If no start reaches a minimum.
    """
    theory = Level.of(level)
    check_temperature(temperature)
    n, seed = integer("n", n), check_seed(seed)
    given = read_one(molecule, seed=seed)
    get_calculator(theory.name, given, **theory.settings)
    starts, search = find_starts(
        given, model, n, level=theory, window=window, seed=seed, progress=progress
    )
    folder = WorkFolder.of(work)
    near, failed = relax_all(starts, theory, folder, NEAR, progress=progress)
    distinct = merge(near)
    low = within(distinct, window * KCAL_PER_MOL + STILL)
    minima, failed_later = relax_all(low, theory, folder, FMAX, progress=progress)
    told = (
        f"of {len(near)} that came near minima of {theory}, {len(near) - len(distinct)} were known "
        f"and {len(distinct) - len(low)} too high"
    )
    notes = [told, *failed, *failed_later]
    search = search.model_copy(update={"notes": (*search.notes, *notes)})
    if not minima:
        raise RuntimeError(
            f"{given.name}: no start reaches a minimum at level {theory}: {search.notes[-1]}"
        )
    return weigh(minima, theory, temperature, search, window=window)


def find_starts(
    molecule: Molecule,
    model: Model,
    n: int,
    *,
    level: Level,
    window: float,
    seed: int,
    progress: bool = False,
) -> tuple[list[Conformer], EnsembleProvenance]:
    """Search with the model, and choose what a level of theory is to relax.

    DFT does not rank geometries itself: GFN2-xTB does, in the solvent if there is one.

    Parameters
    ----------
    molecule, model, n, level, window, seed, progress
        See `sample_conformers`.

    Raises
    ------
    ValueError
        See `find_conformers`; or if the window is not positive.
    """
    if not window > 0:
        raise ValueError(f"window {window} kcal/mol: give a positive number")
    ranked_by, margin = level, ROUGH
    if level.name == "dft":
        ranked_by, margin = _cheap(level), UNLIKE
    found = find_conformers(
        molecule,
        model,
        n,
        level=ranked_by,
        window=window * KCAL_PER_MOL,
        seed=seed,
        progress=progress,
    )
    limit = window * KCAL_PER_MOL + margin
    starts = within(found.conformers, limit)
    diagnostics: dict[str, JsonValue] = {
        **found.counts,
        "distinct": len(found.conformers),
        "chosen": len(starts),
        "complete": found.complete,
    }
    provenance = EnsembleProvenance(
        method="conformers",
        seed=seed,
        model=model.name,
        model_sha256=model.sha256,
        settings={"n": n, "window": window, "fmax": FMAX, "ranked_by": str(ranked_by)},
        diagnostics=diagnostics,
        notes=(_told(found, len(starts), ranked_by, limit), *found.notes),
    )
    return starts, provenance


def relax_all(
    starts: Sequence[Conformer],
    level: Level,
    folder: WorkFolder,
    fmax: float = FMAX,
    *,
    progress: bool = False,
) -> tuple[list[Conformer], list[str]]:
    """Relax geometries at a level of theory, see `relax_conformer`.

    Returns
    -------
    list of Conformer
        Those that come to their end, by rising energy.
    list of str
        Why the others did not.
    """
    ends, notes = [], []
    for start in tqdm(starts, level.name, unit="conf", disable=None if progress else True):
        end, reason = relax_conformer(start, level, folder, fmax)
        if reason:
            notes.append(f"{start.start}: {reason}")
        else:
            ends.append(end)
    return sorted(ends, key=lambda one: one.energy), notes


def relax_conformer(
    start: Conformer, level: Level, folder: WorkFolder, fmax: float = FMAX
) -> tuple[Conformer, str]:
    """Relax a geometry at a level of theory, once for each folder.

    Returns
    -------
    Conformer
    str
        Why it is no minimum; empty if it is one.
    """
    settings = {"level": level.model_dump(mode="json"), "fmax": fmax}
    key = work_key("conformer", start.molecule, settings)

    def whole(record: Unit) -> Unit | None:  # without, the level or its program may not fail again
        return record if record["energy"] is not None else None

    done = folder.find_or_do(
        key, lambda: _relax(start.molecule, level, fmax, folder.checkpoint(key)), whole, whole
    )
    if done["reason"]:
        return start, done["reason"]
    molecule = start.molecule.with_positions(np.array(done["positions"]), start.molecule.start)
    return replace(start, molecule=molecule, energy=done["energy"]), ""


def weigh(
    minima: Sequence[Conformer],
    level: Level,
    temperature: float,
    provenance: EnsembleProvenance,
    *,
    window: float = inf,
) -> Ensemble:
    """Merge minima, leave out those above the window, kcal/mol, and weight the others.

    See `sample_conformers`.
    """
    distinct = merge(sorted(minima, key=lambda one: one.energy))
    conformers = within(distinct, window * KCAL_PER_MOL)
    n_above = len(distinct) - len(conformers)
    molecules = [one.molecule for one in conformers]
    symmetries = [find_symmetry(molecule) for molecule in molecules]
    numbers = np.array([symmetry.number for symmetry in symmetries])
    achiral = not has_enantiomer(molecules[0])
    images = np.array([1 + (symmetry.chiral and achiral) for symmetry in symmetries])
    energies = np.array([one.energy for one in conformers])
    n_starts = np.array([one.n_starts for one in conformers])
    if n_above:
        note = f"{n_above} minima are more than {window:g} kcal/mol above the lowest and left out"
        provenance = provenance.model_copy(update={"notes": (*provenance.notes, note)})
    return Ensemble(
        molecule=molecules[0],
        positions=np.array([one.positions for one in molecules]),
        energies=energies,
        weights=boltzmann_weights(energies, temperature, images / numbers),
        temperature=temperature,
        level=level,
        starts=tuple(one.start for one in conformers),
        provenance=provenance,
        columns={"symmetry_number": numbers, "mirror_images": images, "n_starts": n_starts},
    )


def _relax(molecule: Molecule, level: Level, fmax: float, checkpoint: Path | None) -> Unit:
    settings: dict[str, Any] = {**level.settings, "fmax": fmax}
    if level.name == "dft":
        dft = relax_with(molecule, DFTSettings(**settings), checkpoint=checkpoint)
        positions, energy, reason = dft.molecule.positions, dft.energy, dft.reason
    else:
        relaxed = relax_at_level(molecule, level.name, **settings)
        positions, energy, reason = relaxed.positions, relaxed.energy, relaxed.reason
    known = None if isnan(energy) else energy
    return {"positions": positions.tolist(), "energy": known, "reason": reason}


def _cheap(level: Level) -> Level:
    """Return the level that ranks geometries for DFT."""
    solvent = str(level.settings.get("solvent", ""))
    if not solvent:
        return Level(name="gfn2-xtb")
    return Level(name="gfn2-xtb", settings={"solvation": [*born_solvation(solvent)]})


def _told(found: Found, n_chosen: int, ranked_by: Level, limit: float) -> str:
    """Account for all geometries that were tried."""
    counts = found.counts
    distinct = len(found.conformers)
    known = counts["tried"] - sum(counts[kind] for kind in COUNTED[1:])
    told = [
        f"{counts['tried']} geometries were tried: {counts['other_molecules']} became other "
        f"molecules, {counts['high']} were high for the force field, {known} were known, and the "
        f"model relaxed {counts['relaxed']}, of which {distinct} were distinct",
        f"{distinct - n_chosen} of these were more than {limit / KCAL_PER_MOL:g} kcal/mol above "
        f"the lowest by {ranked_by}",
    ]
    if beyond := counts["beyond_n"]:
        told.append(f"{beyond} more were new, beyond n")
    if found.complete:
        told.append(
            f"the last embeddings, {counts['last_probe']} of them low, showed nothing unseen"
        )
    elif not beyond and not counts.get("last_probe", 0):
        told.append("none of the last embeddings was low: what is unseen is not known")
    else:
        told.append("the search is not complete: ask for more")
    return "; ".join(told)
