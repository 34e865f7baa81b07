"""From starts to the minima of a level of theory and their weights."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import cast

import numpy as np

from diffrelax.choices import CurvatureLevel
from diffrelax.errors import InputError, UnfinishedError
from diffrelax.files.processes import check_workers
from diffrelax.files.reading import Input, read_one
from diffrelax.levels import get_calculator
from diffrelax.levels.calculators import check_cheap, level_class
from diffrelax.models.cautions import not_learned_there
from diffrelax.models.release import Model
from diffrelax.molecule import Molecule
from diffrelax.molecule.checks import integer
from diffrelax.molecule.doubts import odd_reading
from diffrelax.molecule.embedding import check_seed
from diffrelax.molecule.identity import has_enantiomer
from diffrelax.molecule.symmetry import find_conformer_symmetry, find_symmetry
from diffrelax.relaxation import relax_molecules
from diffrelax.sampling.conformers.funnel import Funnel, sort_out
from diffrelax.sampling.conformers.record import (
    Conformer,
    find_same,
    merge,
    read_conformer,
    within,
    write_conformer,
)
from diffrelax.sampling.conformers.search import COUNTED, Found, find_conformers
from diffrelax.sampling.conformers.unseen import Unseen
from diffrelax.sampling.ensemble import (
    Ensemble,
    EnsembleProvenance,
    LevelSettings,
    boltzmann_weights,
    check_temperature,
)
from diffrelax.store import Store, Unit, work_key
from diffrelax.units import KCAL_PER_MOL

BEST, ELSEWHERE = "aimnet2", "gfn2-xtb"  # cheap levels
ROUGH = 1.0  # kcal/mol, by which a geometry near its minimum may be above it
UNLIKE = 4.0  # kcal/mol, by which a cheap level may be wrong


def sample_conformers(
    molecule: Input,
    model: Model,
    n: int = 1000,
    *,
    level: str | LevelSettings = "auto",
    surface: str = "auto",
    window: float = 6.0,
    temperature: float = 298.15,
    thermo: CurvatureLevel = "none",
    seed: int = 42,
    checkpoint: Store | str | os.PathLike[str] | None = None,
    workers: int = 1,
    progress: bool = False,
) -> Ensemble:
    """Find the conformers of a molecule and their Boltzmann weights at a level of theory.

    A search finds distinct geometries near minima of a cheap level, see
    `diffrelax.sampling.conformers.find_conformers`. For DFT, they are relaxed to the minima of that
    level, and moved by the model from there to DFT's. Those that may end within the window are
    brought near their minima at the level of theory (by DFT with one gradient, where the minimum
    can be predicted), merged, and those that are low relaxed tightly, always as the same molecule;
    what ends above the window is left out. Mirror images of each other are one conformer, unless
    they are different molecules; a conformer of a chiral molecule has the configuration of the
    input.

    The weight of a conformer is proportional to (m/s) exp(−E/kT), with the electronic energy E, the
    rotational symmetry number s of its rigid geometry, and m = 2 if it is chiral and the molecule
    is not, else 1. So the trans-trans conformer of pentane (s = 2) counts a quarter of a
    trans-gauche one (m = 2) of the same energy. Vibrations and moments of inertia are left out,
    unless free energies are asked for: the weight is then proportional to (m/s) exp(−G₁/kT), where
    G₁ is the free energy without its own symmetry number, which counts all atoms and isotopes.

    Parameters
    ----------
    molecule : SMILES, path, Molecule, ase.Atoms or rdkit.Chem.Mol
        One molecule. Its own geometry is the first start.
    model : Model
        See :func:`diffrelax.load_model`.
    n : int
        Geometries that the model relaxes, at most. Where that ends the search, a note says so.
    level : str or LevelSettings
        One of `diffrelax.levels.LEVELS`; a `LevelSettings` to change its settings. ``"auto"`` is
        AIMNet2 where it is installed and covers the molecule, else GFN2-xTB.
    surface : str
        Cheap level of the search. ``"auto"`` is the level itself, or for DFT what ``"auto"`` is as
        a level; in a solvent, GFN2-xTB.
    window : float, kcal/mol
        Above the lowest conformer, in energy, also where free energies are asked for.
    temperature : float, K
    thermo : {"none", "gfn2-xtb", "dft"}
        Level of the Hessian of free energies of Gibbs, for the level ``"dft"``. Ends are then
        checked to be minima, see `diffrelax.dft.DFTSettings`. Soft vibrations count as rotors.
    seed : int
        Of the embeddings.
    checkpoint : path or Store, optional
        File that keeps each step of the search and each relaxation as it comes; any number of calls
        may share it. A call that was interrupted and is made again continues from there.
    workers : int
        Number of processes that relax at a cheap level; the result does not depend on it. DFT,
        which has threads of its own, relaxes one conformer after the other. With more than one, a
        script must work under ``if __name__ == "__main__"``.
    progress : bool
        Show a progress bar on standard error.

    Returns
    -------
    Ensemble
        By rising energy. The columns are ``symmetry_number`` (s) and ``mirror_images`` (m), both
        without the ends of methyl groups and the like (see
        `diffrelax.molecule.symmetry.find_conformer_symmetry`), and
        ``n_starts``, by how many embeddings and turned geometries each was found, and
        ``gibbs_energy_quasi_harmonic_ev`` where free energies were asked for. What became of
        all that were tried is in ``provenance.diagnostics`` and in words the first of
        ``provenance.notes``, followed by what failed.

    Raises
    ------
    ValueError
        If the input is not one molecule that the model covers, ``n``, the workers, the window, the
        temperature or the seed is out of range, the level is unknown, not installed, or cannot
        describe the molecule, or has no free energies.
    RuntimeError
        If no start reaches a minimum.
    """
    check_temperature(temperature)
    n, workers, seed = integer("n", n), integer("workers", workers), check_seed(seed)
    check_workers(workers)
    given = read_one(molecule, seed=seed)
    chosen = choose_level(level, given)
    funnel = Funnel(chosen, Store.of(checkpoint), window, thermo, temperature)
    get_calculator(chosen.name, given, **chosen.settings)
    starts, search = find_starts(
        given, model, n, funnel, surface=surface, seed=seed, workers=workers, progress=progress
    )
    near, failed = sort_out(starts, funnel.approach(starts, workers=workers, progress=progress))
    low, left_out = funnel.choose(near)
    minima, failed_later = sort_out(low, funnel.finish(low, workers=workers, progress=progress))
    notes = (*search.notes, *left_out, *failed, *failed_later)
    search = search.model_copy(update={"notes": notes})
    if not minima:
        raise UnfinishedError(
            f"{given.name}: no start reaches a minimum at level {chosen}: {search.notes[-1]}"
        )
    return weigh(minima, funnel, search)


def find_starts(
    molecule: Molecule,
    model: Model,
    n: int,
    funnel: Funnel,
    *,
    seed: int,
    surface: str = "auto",
    workers: int = 1,
    progress: bool = False,
) -> tuple[list[Conformer], EnsembleProvenance]:
    """Search with the model, and choose what a level of theory is to relax.

    The model takes the nearest level that it has learned. Where the surface of the search is
    another level, as for DFT, geometries are relaxed to its minima, so that the level of theory
    relaxes each once. For DFT, the model then moves them to the level once more. The store of the
    funnel keeps the steps of a search, and a finished one: another processor, or another number of
    threads, would find its geometries by rounding elsewhere, and what was done with them would be
    lost.

    Parameters
    ----------
    molecule, model, n, surface, seed, workers, progress
        See `sample_conformers`.
    funnel : Funnel
        With the level of theory and the window.

    Raises
    ------
    ValueError
        See `find_conformers`.
    """
    level, window = funnel.level.model_dump(mode="json"), str(funnel.window)
    searched = choose_surface(surface, funnel.level, molecule)
    settings = {
        "n": n,
        "level": level,
        "window": window,
        "surface": searched.model_dump(mode="json"),
    }
    key = work_key("search", molecule, settings, model_sha256=model.sha256, seed=seed)
    kind = f"step of {key}"
    done = funnel.store.find(key)
    if done is None:
        done = _search(molecule, model, n, funnel, searched, kind, seed, workers, progress)
        if done["conformers"]:  # or a program failed, which may not happen again
            funnel.store.keep(key, done)
            funnel.store.drop(kind=kind)
    chosen = [read_conformer(one) for one in done["conformers"]]
    provenance = EnsembleProvenance(
        method="conformers",
        seed=seed,
        model=model.name,
        model_sha256=model.sha256,
        settings={
            "n": n,
            "window": funnel.window,
            "fmax": funnel.fmax,
            "thermo": funnel.thermo,
            "model_level": model.nearest_level(funnel.level.level).level,
            "surface": str(searched),
        },
        diagnostics=done["diagnostics"],
        notes=tuple(done["notes"]),
    )
    named = [replace(one, molecule=replace(one.molecule, name=molecule.name)) for one in chosen]
    return named, provenance


def _search(
    molecule: Molecule,
    model: Model,
    n: int,
    funnel: Funnel,
    searched: LevelSettings,
    kind: str,
    seed: int,
    workers: int,
    progress: bool,
) -> Unit:
    """Search, whose steps are units of a kind, and choose, see `find_starts`."""
    is_other = searched != funnel.level
    limit = funnel.window + (UNLIKE if is_other else 0)
    nearest = model.nearest_level(funnel.level.level)
    surface = Funnel(searched, funnel.store, limit)
    found = find_conformers(
        molecule,
        model,
        n,
        surface=surface,
        model_level=nearest.level,
        seed=seed,
        kind=kind,
        workers=workers,
        progress=progress,
    )
    chosen = within(found.conformers, (limit + ROUGH) * KCAL_PER_MOL)
    notes = [
        _described(found),
        nearest.described(model.name),
        *filter(None, [odd_reading(molecule), not_learned_there(molecule, model, nearest.level)]),
        *found.notes,
    ]
    if is_other:
        chosen, message = _without_known(chosen, found, surface, workers, progress)
        notes.append(message)
    elif found.lost:
        (first, reason), n_lost = found.lost[0], len(found.lost)
        notes.append(f"{n_lost} reached no minimum of {searched}, such as {first.start}: {reason}")
    if funnel.level.name == "dft":
        chosen = _moved(chosen, model, nearest.level)
    diagnostics = {
        **found.counts,
        "distinct": len(found.conformers),
        "chosen": len(chosen),
        **asdict(found.unseen),
    }
    conformers = [write_conformer(one) for one in chosen]
    return {"conformers": conformers, "diagnostics": diagnostics, "notes": notes}


def weigh(minima: Sequence[Conformer], funnel: Funnel, provenance: EnsembleProvenance) -> Ensemble:
    """Merge minima, leave out those above the window, and weight the others.

    See `sample_conformers`.
    """
    distinct = merge(sorted(minima, key=lambda one: one.energy))
    conformers = within(distinct, funnel.window * KCAL_PER_MOL)
    beware: dict[str, list[str]] = {}
    for one in conformers:
        for note in one.notes:
            beware.setdefault(note, []).append(one.start)
    notes = [f"{', '.join(starts)}: {note}" for note, starts in beware.items()]
    if n_same := len(minima) - len(distinct):
        notes.append(f"{n_same} of {len(minima)} minima were duplicates")
    if n_above := len(distinct) - len(conformers):
        notes.append(
            f"{n_above} minima are more than {funnel.window:g} kcal/mol above the lowest "
            "and were left out"
        )
    counts = provenance.diagnostics
    if "landings" in counts:
        unseen = Unseen(cast(int, counts["landings"]), cast(int, counts["new"]))
        notes.append(unseen.described(len(conformers), funnel.window))
    provenance = provenance.model_copy(update={"notes": (*provenance.notes, *notes)})
    molecules = [one.molecule for one in conformers]
    symmetries = [find_conformer_symmetry(molecule) for molecule in molecules]
    numbers = np.array([symmetry.number for symmetry in symmetries])
    achiral = not has_enantiomer(molecules[0])
    images = np.array([1 + (symmetry.chiral and achiral) for symmetry in symmetries])
    energies = np.array([one.energy for one in conformers])
    columns = {
        "symmetry_number": numbers,
        "mirror_images": images,
        "n_starts": np.array([one.n_starts for one in conformers]),
    }
    if funnel.thermo == "none":
        weights = boltzmann_weights(energies, funnel.temperature, images / numbers)
    else:
        free = np.array([one.free_energy for one in conformers])
        columns["gibbs_energy_quasi_harmonic_ev"] = free
        within_free = np.array([find_symmetry(molecule).number for molecule in molecules])
        weights = boltzmann_weights(free, funnel.temperature, images * within_free / numbers)
    return Ensemble(
        molecule=molecules[0],
        positions=np.array([one.positions for one in molecules]),
        energies=energies,
        weights=weights,
        temperature=funnel.temperature,
        level=funnel.level,
        starts=tuple(one.start for one in conformers),
        provenance=provenance,
        columns=columns,
    )


def _without_known(
    starts: Sequence[Conformer],
    found: Found,
    surface: Funnel,
    workers: int,
    progress: bool,
) -> tuple[list[Conformer], str]:
    """Choose those that end in distinct minima of the surface, or in none; and a note.

    The latter, such as some zwitterions, may have one at the level of theory. Where an end is more
    symmetric than the geometry that led there, this goes on as well: it may have a minimum where
    the surface has none, as hydrogen peroxide, and nothing leads away from a saddle between mirror
    images.
    """
    ends, _ = sort_out(starts, surface.finish(starts, workers=workers, progress=progress))
    reached = {one.start for one in ends}
    lost = [one for one, _ in found.lost] + [one for one in starts if one.start not in reached]
    low, _ = surface.choose(ends)
    bent = [
        replace(one, molecule=before, start=f"{one.start} before {surface.level.name}")
        for one in low
        if _is_more_symmetric(one.molecule, before := found.before[one.start])
    ]
    message = (
        f"of {len(starts) + len(lost)} geometries, {len(low)} lead to low, distinct minima of "
        f"{surface.level}"
    )
    if lost:
        message += f", and {len(lost)} to none: these are relaxed at the level itself"
    if bent:
        message += f"; {len(bent)} became more symmetric, and are also kept as they were"
    return [*low, *bent, *lost], message


def _is_more_symmetric(one: Molecule, other: Molecule) -> bool:
    here, there = map(find_conformer_symmetry, (one, other))
    return here.number > there.number or (there.chiral and not here.chiral)


def _moved(starts: Sequence[Conformer], model: Model, level: str) -> list[Conformer]:
    """Move geometries to minima of a level of theory with the model, where it relaxes them.

    Of those that it brings to one place, one goes on.
    """
    ends = relax_molecules([one.molecule for one in starts], model, level=level)
    moved = [
        replace(one, molecule=end.molecule or one.molecule)
        for one, end in zip(starts, ends, strict=True)
    ]
    return [one for i, one in enumerate(moved) if find_same(one, moved[:i], energies=False) is None]


def choose_level(level: str | LevelSettings, molecule: Molecule) -> LevelSettings:
    """Return a level, or for ``"auto"`` the best cheap one for a molecule."""
    chosen = LevelSettings.of(level)
    if chosen.name != "auto":
        return chosen
    best = level_class(BEST)
    try:
        best.check_molecule(molecule)
        best.check_installed()
    except InputError:
        return LevelSettings(name=ELSEWHERE)
    return LevelSettings(name=BEST)


def choose_surface(surface: str, level: LevelSettings, molecule: Molecule) -> LevelSettings:
    """Return the level of a search: for ``"auto"`` the level of theory itself, if it is cheap."""
    solvent = str(level.settings.get("solvent", "")) if level.name == "dft" else ""
    if surface == "auto":
        if level.name != "dft":
            return level
        surface = ELSEWHERE if solvent else choose_level("auto", molecule).name
    check_cheap(surface)
    if not solvent or surface != ELSEWHERE:
        return LevelSettings(name=surface)
    from diffrelax.levels.solvents import born_solvation  # takes PySCF

    return LevelSettings(name=surface, settings={"solvation": [*born_solvation(solvent)]})


def _described(found: Found) -> str:
    """Account for all geometries that were tried."""
    counts = found.counts
    known = counts["tried"] - sum(counts[kind] for kind in COUNTED[1:])
    message = (
        f"{counts['tried']} geometries were tried: {counts['other_molecules']} became other "
        f"molecules, {counts['high']} were too high, {known} were duplicates, and "
        f"{counts['relaxed']} were relaxed, to {len(found.conformers)} distinct ones"
    )
    if beyond := counts["beyond_n"]:
        message += f"; {beyond} more were new, but beyond n"
    return message
