"""From starts to the minima of a level of theory and their weights."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from diffrelax.choices import CurvatureLevel
from diffrelax.errors import UnfinishedError
from diffrelax.files.processes import check_workers
from diffrelax.files.reading import Input, read_one
from diffrelax.levels import get_calculator
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
from diffrelax.sampling.ensemble import (
    Ensemble,
    EnsembleProvenance,
    LevelSettings,
    boltzmann_weights,
    check_temperature,
)
from diffrelax.store import Store, Unit, work_key
from diffrelax.units import KCAL_PER_MOL

ROUGH = 2 * KCAL_PER_MOL  # by which a geometry of the model may be above its minimum
UNLIKE = 4 * KCAL_PER_MOL  # by which GFN2-xTB at geometries of the model may be wrong


def sample_conformers(
    molecule: Input,
    model: Model,
    n: int = 1000,
    *,
    level: str | LevelSettings = "gfn2-xtb",
    window: float = 6.0,
    temperature: float = 298.15,
    thermo: CurvatureLevel = "none",
    seed: int = 42,
    checkpoint: Store | str | os.PathLike[str] | None = None,
    workers: int = 1,
    progress: bool = False,
) -> Ensemble:
    """Find the conformers of a molecule and their Boltzmann weights at a level of theory.

    A search finds distinct geometries with the model, see
    `diffrelax.sampling.conformers.find_conformers`. For DFT, GFN2-xTB brings them to its minima
    first, and the model from there to DFT's. Those that may end within the window are brought
    near their minima at the level of theory (by DFT with one gradient, where the minimum can be
    predicted), merged, and those that are low relaxed tightly, always as the same molecule; what
    ends above the window is left out. Mirror images of each other are one conformer, unless they
    are different molecules; a conformer of a chiral molecule has the configuration of the input.

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
        One of `diffrelax.levels.LEVELS`; a `LevelSettings` to change its settings.
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
    chosen = LevelSettings.of(level)
    check_temperature(temperature)
    n, workers, seed = integer("n", n), integer("workers", workers), check_seed(seed)
    check_workers(workers)
    funnel = Funnel(chosen, Store.of(checkpoint), window, thermo, temperature)
    given = read_one(molecule, seed=seed)
    get_calculator(chosen.name, given, **chosen.settings)
    starts, search = find_starts(
        given, model, n, funnel, seed=seed, workers=workers, progress=progress
    )
    near, failed = sort_out(starts, funnel.approach(starts, workers=workers, progress=progress))
    low, told = funnel.choose(near)
    minima, failed_later = sort_out(low, funnel.finish(low, workers=workers, progress=progress))
    notes = (*search.notes, *told, *failed, *failed_later)
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
    workers: int = 1,
    progress: bool = False,
) -> tuple[list[Conformer], EnsembleProvenance]:
    """Search with the model, and choose what a level of theory is to relax.

    The model takes the nearest level that it has learned. DFT does not rank geometries itself:
    GFN2-xTB does, in the solvent if there is one, and brings them to its minima, so that DFT
    relaxes each once. The model then moves them to the level once more. The store of the funnel
    keeps the steps of a search, and a finished one: another processor, or another number of
    threads, would find its geometries by rounding elsewhere, and what was done with them would be
    lost.

    Parameters
    ----------
    molecule, model, n, seed, workers, progress
        See `sample_conformers`.
    funnel : Funnel
        With the level of theory and the window.

    Raises
    ------
    ValueError
        See `find_conformers`.
    """
    level, window = funnel.level.model_dump(mode="json"), str(funnel.window)
    settings = {"n": n, "level": level, "window": window}
    key = work_key("search", molecule, settings, model_sha256=model.sha256, seed=seed)
    kind = f"step of {key}"
    done = funnel.store.find(key)
    if done is None:
        done = _search(molecule, model, n, funnel, kind, seed, workers, progress)
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
            "ranked_by": str(_ranking(funnel.level)),
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
    kind: str,
    seed: int,
    workers: int,
    progress: bool,
) -> Unit:
    """Search, whose steps are units of a kind, and choose, see `find_starts`."""
    ranked_by, is_dft = _ranking(funnel.level), funnel.level.name == "dft"
    window = funnel.window * KCAL_PER_MOL
    nearest = model.nearest_level(funnel.level.level)
    found = find_conformers(
        molecule,
        model,
        n,
        level=ranked_by,
        model_level=nearest.level,
        window=window,
        seed=seed,
        store=funnel.store,
        kind=kind,
        progress=progress,
    )
    limit = window + (UNLIKE if is_dft else ROUGH)
    starts = chosen = within(found.conformers, limit)
    told: list[str] = []
    if is_dft:
        cheap = Funnel(ranked_by, funnel.store, limit / KCAL_PER_MOL)
        chosen, told = _without_known(starts, cheap, workers, progress)
        chosen = _moved(chosen, model, nearest.level)
    diagnostics = {
        **found.counts,
        "distinct": len(found.conformers),
        "chosen": len(chosen),
        "complete": found.complete,
    }
    notes = [
        _described(found, len(starts), ranked_by, limit),
        nearest.described(model.name),
        *filter(None, [odd_reading(molecule), not_learned_there(molecule, model, nearest.level)]),
        *found.notes,
        *told,
    ]
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
    starts: Sequence[Conformer], cheap: Funnel, workers: int, progress: bool
) -> tuple[list[Conformer], list[str]]:
    """Choose those that end in distinct minima of a cheap level, or in none.

    The latter, such as some zwitterions, may have one at the level of theory. Where an end is more
    symmetric than the geometry that led there, this goes on as well: it may have a minimum where
    the cheap level has none, as hydrogen peroxide, and nothing leads away from a saddle between
    mirror images.
    """
    low, lost = starts, list[Conformer]()
    for step in (cheap.approach, cheap.finish):
        ends, _ = sort_out(low, step(low, workers=workers, progress=progress))
        reached = {one.start for one in ends}
        lost += [one for one in low if one.start not in reached]
        low, _ = cheap.choose(ends)
    before = {one.start: one for one in starts}
    bent = [
        replace(before[one.start], start=f"{one.start} before {cheap.level.name}")
        for one in low
        if _is_more_symmetric(one.molecule, before[one.start].molecule)
    ]
    told = f"of {len(starts)} geometries, {cheap.level} relaxed {len(low)} to low, distinct minima"
    if lost:
        told += f", and {len(lost)} to none: these are relaxed at the level itself"
    if bent:
        told += f"; {len(bent)} became more symmetric, and are also kept as they were"
    return [*low, *bent, *lost], [told]


def _is_more_symmetric(one: Molecule, other: Molecule) -> bool:
    here, there = map(find_conformer_symmetry, (one, other))
    return here.number > there.number or (there.chiral and not here.chiral)


def _moved(starts: Sequence[Conformer], model: Model, level: str) -> list[Conformer]:
    """Move geometries to minima of a level of theory with the model, where it relaxes them.

    Of those that it brings to one place, one goes on.
    """
    ends = relax_molecules([one.molecule for one in starts], model, level=level, fast=True)
    moved = [
        replace(one, molecule=end.molecule or one.molecule)
        for one, end in zip(starts, ends, strict=True)
    ]
    return [one for i, one in enumerate(moved) if find_same(one, moved[:i], energies=False) is None]


def _ranking(level: LevelSettings) -> LevelSettings:
    """Return the level that ranks geometries: in the place of DFT, GFN2-xTB."""
    if level.name != "dft":
        return level
    solvent = str(level.settings.get("solvent", ""))
    if not solvent:
        return LevelSettings(name="gfn2-xtb")
    from diffrelax.levels.solvents import born_solvation  # takes PySCF

    return LevelSettings(name="gfn2-xtb", settings={"solvation": [*born_solvation(solvent)]})


def _described(found: Found, n_chosen: int, ranked_by: LevelSettings, limit: float) -> str:
    """Account for all geometries that were tried."""
    counts = found.counts
    distinct = len(found.conformers)
    known = counts["tried"] - sum(counts[kind] for kind in COUNTED[1:])
    told = [
        f"{counts['tried']} geometries were tried: {counts['other_molecules']} became other "
        f"molecules, {counts['high']} were too high for the force field, {known} were "
        f"duplicates, and the model relaxed {counts['relaxed']}, of which {distinct} were distinct"
    ]
    if distinct > n_chosen:
        told.append(
            f"{distinct - n_chosen} of these were more than {limit / KCAL_PER_MOL:g} kcal/mol "
            f"above the lowest by {ranked_by}"
        )
    if beyond := counts["beyond_n"]:
        told.append(f"{beyond} more were new, but beyond n")
    if found.complete:
        told.append(
            f"the search is complete: the last embeddings, {counts['last_probe']} of them "
            "low, gave nothing new"
        )
    elif not beyond and not counts["last_probe"]:
        told.append("none of the last embeddings was low, so completeness is unknown")
    else:
        told.append("the search is not complete: increase n")
    return "; ".join(told)
