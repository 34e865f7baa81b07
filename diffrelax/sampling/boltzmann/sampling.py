"""Samples of a molecule at a temperature, as an ensemble that says how far to trust it."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from ase.units import kB
from pydantic import JsonValue
from scipy.sparse.csgraph import connected_components

from diffrelax.clock import Time
from diffrelax.errors import InputError, UnfinishedError
from diffrelax.files.reading import Input, read_one
from diffrelax.geometry import bond_matrix
from diffrelax.levels import Surface
from diffrelax.molecule import Molecule
from diffrelax.molecule.checks import integer
from diffrelax.molecule.doubts import odd_reading
from diffrelax.molecule.embedding import check_seed
from diffrelax.molecule.identity import bonded_pairs, identity_change
from diffrelax.molecule.reembedding import embed_again
from diffrelax.molecule.torsions import Rotors, torsion_angles, watched_torsions
from diffrelax.progress import progress_bar
from diffrelax.sampling.boltzmann.chains import Chains, Target
from diffrelax.sampling.boltzmann.diagnostics import (
    FEWEST_CHAINS,
    FEWEST_DRAWS,
    Diagnostics,
    check_diagnostics,
)
from diffrelax.sampling.boltzmann.images import images
from diffrelax.sampling.boltzmann.mixtures import Draws, run
from diffrelax.sampling.boltzmann.moves import n_steps, tune_moves
from diffrelax.sampling.boltzmann.remembered import surface_at
from diffrelax.sampling.boltzmann.wells import Wells
from diffrelax.sampling.ensemble import (
    Ensemble,
    EnsembleProvenance,
    LevelSettings,
    check_temperature,
)
from diffrelax.store import Store

MANY = 0.05  # share of samples
MANY_FAILED = 0.01  # share of energies; atoms that nearly touch are far fewer
THIN = 4  # steps from one draw to the next
METHOD = "boltzmann"


def sample_boltzmann(
    molecule: Input,
    n: int = 5000,
    *,
    temperature: float = 300.0,
    level: str | LevelSettings = "mmff94",
    conformers: Ensemble | None = None,
    n_chains: int = 10,
    seed: int = 42,
    checkpoint: Store | str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> Ensemble:
    """Sample the geometries of a molecule at a temperature and a level of theory.

    Markov chains whose stationary distribution is exp(−E/kT) of the level. Their moves are small in
    stiff coordinates and large in soft ones, turns about single bonds, and walks on a force field
    that is fitted to the energies of the first steps; each is accepted or rejected by its exact
    ratio (Metropolis–Hastings). Step sizes and the force field are tuned first and then frozen.
    With conformers there are jumps between their wells too, without which chains of a crowded or
    flexible molecule rarely converge.

    All chains run in one batch, from conformers that ETKDGv3 embeds. An interrupt (Ctrl-C) while
    samples are drawn ends the run, and what has been drawn comes back.

    Parameters
    ----------
    molecule : SMILES, path, Molecule, ase.Atoms or rdkit.Chem.Mol
        One molecule.
    n : int
        Number of samples; the next multiple of ``n_chains`` is drawn.
    temperature : float, K
    level : str or LevelSettings
        One of `diffrelax.levels.LEVELS`; a `LevelSettings` to change its settings.
    conformers : Ensemble, optional
        What `sample_conformers` found for the molecule at the level. Wells that are not among them
        are sampled as well, but not jumped to. Each costs second derivatives of the energy.
    n_chains : int
    seed : int
        Of the embedding and the chains.
    checkpoint : path or Store, optional
        File that keeps the energies as they are calculated; any number of calls may share it. The
        same call made again, be it for more samples, takes them from there, and calculates those
        that are missing.
    progress : bool
        Show a progress bar on standard error.

    Returns
    -------
    Ensemble
        In the order of the draws, all chains of a draw side by side, with equal weights. The
        columns are ``chain`` and ``draw``. ``provenance.diagnostics`` holds whether the chains
        have ``converged``, the ``doubts`` if not, ``rhat``, ``ess`` and ``autocorrelation``
        (in steps) of the energy and of cosines and sines of torsions, ``changed``, the number of
        samples that are another molecule, ``acceptance`` by kernel, and what the run cost:
        ``energy_calls``, of which the level could not tell ``failed_energy_calls``, ``seconds`` and
        ``processor_seconds``, and what of the cost was ``tuning``.

    Raises
    ------
    ValueError
        If the input is not one molecule of two atoms or more, whose bonds hold it together, a
        number is out of range, the level is unknown, not installed, or cannot describe the
        molecule, the conformers are of another molecule or level, all atoms of the molecule are on
        a line, or the checkpoint is damaged; or if the extra [sampling] is not installed.
    RuntimeError
        If the level has no energy for a start.
    """
    check_diagnostics()
    chosen = LevelSettings.of(level)
    check_temperature(temperature)
    n, n_chains, seed = integer("n", n), integer("n_chains", n_chains), check_seed(seed)
    temperature = float(temperature)
    check_seed(seed + n_chains)
    n_draws = _count_draws(n, n_chains)
    given = read_one(molecule, seed=seed)
    _check_bound(given)
    embedded = embed_starts(given, n_chains, seed)
    if conformers:
        _check_conformers(conformers, given, chosen)
        embedded = _ordered(given, embedded, conformers.positions[0])
    with surface_at(given, chosen, checkpoint) as surface:
        starts = Chains.start(embedded, surface.energies)
        if not np.isfinite(starts.energies).all():
            raise UnfinishedError(
                f"{given.name}: level {chosen} has no energy for one of the starts: use "
                "another level"
            )
        begun, rng = Time.now(), np.random.default_rng(seed)
        target = Target(surface.energies, kB * temperature)
        wells = None
        if conformers:
            wells = Wells.of(given, conformers, surface, target.thermal_energy)
        total = n_steps() + n_draws * THIN
        with progress_bar(total, "step", given.name, show=progress) as bar:
            chains, moves = tune_moves(given, starts, target, wells, rng, bar.update)
            tuning = _cost(surface, begun)
            draws = run(chains, moves, target, n_draws, THIN, rng, bar.update)
    kernels: dict[str, JsonValue] = {
        kernel.name: {"share": share, "step_size": kernel.size}
        for kernel, share in zip(moves.kernels, moves.probabilities, strict=True)
    }
    changes = _changes(given, draws.positions)
    provenance = EnsembleProvenance(
        method=METHOD,
        seed=seed,
        settings={
            "n": n,
            "n_chains": n_chains,
            "thin": THIN,
            "tuning": n_steps(),
            "wells": len(wells) if wells else 0,
            "kernels": kernels,
        },
        diagnostics={
            **_judged(given, draws, changes),
            "interrupted": len(draws.energies) < n_draws,
            "acceptance": {**draws.acceptance},
            "tuning": tuning,
            "failed_energy_calls": surface.n_failed,
            **_cost(surface, begun),
        },
        notes=(
            *_failures(surface, chosen),
            *_notes(given, starts.positions, draws, n_draws, changes),
        ),
    )
    return _ensemble(given, draws, chosen, temperature, provenance)


def _cost(surface: Surface, begun: Time) -> dict[str, JsonValue]:
    time = Time.now() - begun
    return {
        "energy_calls": surface.n_calls,
        "seconds": time.wall,
        "processor_seconds": time.processor,
    }


def _check_bound(molecule: Molecule) -> None:
    """Refuse what has no canonical distribution of its own: fragments drift apart for ever."""
    bonded = bond_matrix(molecule.numbers, molecule.positions)
    for bond in molecule.bonds:
        bonded[bond.begin, bond.end] = True
    n, _ = connected_components(bonded, directed=False)
    if n > 1:
        raise InputError(
            f"{molecule.name}: {n} fragments, which would drift apart: sample each one separately"
        )
    if molecule.n_atoms == 1:
        raise InputError(f"{molecule.name}: a single atom has no geometry to sample")


def _check_conformers(conformers: Ensemble, molecule: Molecule, level: LevelSettings) -> None:
    theirs = conformers.molecule
    alike = np.array_equal(theirs.numbers, molecule.numbers)
    if not alike or _bonds(theirs) != _bonds(molecule):
        raise InputError(
            f"{molecule.name}: the conformers are of another molecule, or its atoms are in another "
            "order: search for them with the same input"
        )
    if conformers.level != level:
        raise InputError(
            f"{molecule.name}: the conformers are minima of {conformers.level}: search for those "
            f"of {level}"
        )


def _bonds(molecule: Molecule) -> set[frozenset[int]]:
    return set(map(frozenset, bonded_pairs(molecule)))


def _ordered(molecule: Molecule, starts: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Give the atoms of starts the order of a conformer, so that they are in the same wells."""
    ordered = []
    for start in starts:
        image = next(images(molecule, start, reference, mirrored=False), None)
        ordered.append(image.positions(start) if image else start)
    return np.array(ordered)


def _count_draws(n: int, n_chains: int) -> int:
    if n_chains < FEWEST_CHAINS:
        raise InputError(f"{n_chains} chains: use at least {FEWEST_CHAINS}, to compare them")
    if n < FEWEST_DRAWS * n_chains:
        raise InputError(
            f"n = {n}: draw at least {FEWEST_DRAWS * n_chains} samples, {FEWEST_DRAWS} of "
            f"each of {n_chains} chains"
        )
    return -(-n // n_chains)


def embed_starts(molecule: Molecule, n: int, seed: int) -> np.ndarray:
    """Embed a molecule again and again; its own geometry stands in where that fails."""
    starts = []
    for i in range(n):
        try:
            starts.append(embed_again(molecule, seed + i).positions)
        except ValueError:
            starts.append(molecule.positions)
    return np.array(starts)


def observables(molecule: Molecule, draws: Draws) -> dict[str, np.ndarray]:
    """Measure what convergence is judged by, each an (n_draws, n_chains) array.

    These are the energy and, for one torsion about each bond and each linear chain that has one,
    cosine and sine.
    """
    found = {"energy": draws.energies}
    quads = watched_torsions(molecule)
    for quad, angles in zip(quads, torsion_angles(draws.positions, quads), strict=True):
        name = "–".join(map(molecule.label, quad))
        found[f"cos {name}"], found[f"sin {name}"] = np.cos(angles), np.sin(angles)
    return found


def _changes(molecule: Molecule, positions: np.ndarray) -> Counter[str]:
    """Count the samples, (..., n_atoms, 3), that are another molecule, by their first change."""
    frames = positions.reshape(-1, molecule.n_atoms, 3)
    found = (identity_change(molecule, frame) for frame in frames)
    return Counter(re.split(r" \(|; ", change)[0] for change in found if change)


def _judged(molecule: Molecule, draws: Draws, changes: Counter[str]) -> dict[str, Any]:
    watched = observables(molecule, draws)
    if (drawn := len(draws.energies)) < FEWEST_DRAWS:  # interrupted
        unknown = dict.fromkeys(watched)
        return {
            "converged": False,
            "doubts": f"{drawn} draws of each chain are too few to judge convergence",
            "changed": changes.total(),
            **dict.fromkeys(("rhat", "ess", "autocorrelation"), unknown),
        }
    found = Diagnostics.of(watched)
    steps = THIN * found.n_samples
    doubts = [found.doubts] if found.doubts else []
    if (share := changes.total() / draws.energies.size) > MANY:
        doubts.append(f"{share:.0%} of the samples are a different molecule")
    return {
        "converged": not doubts,
        "doubts": "; ".join(doubts),
        "changed": changes.total(),
        "rhat": _finite(found.rhat),
        "ess": _finite(found.ess),
        "autocorrelation": _finite({name: steps / ess for name, ess in found.ess.items()}),
    }


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if np.isfinite(value) else None for name, value in values.items()}


def _failures(surface: Surface, level: LevelSettings) -> list[str]:
    """Tell of a level that had no energy for many geometries, which is an infinite one."""
    share = surface.n_failed / surface.n_calls
    if share < MANY_FAILED:
        return []
    return [
        f"level {level} had no energy for {share:.0%} of the proposed geometries, which "
        "were rejected: unless atoms nearly touch there, the samples are incomplete"
    ]


def _notes(
    molecule: Molecule,
    starts: np.ndarray,
    draws: Draws,
    n_draws: int,
    changes: Counter[str],
) -> list[str]:
    notes = [odd] if (odd := odd_reading(molecule)) else []
    for change, _ in changes.most_common(1):
        of_all = f"{changes.total()} of {draws.energies.size} samples"
        notes.append(f"{of_all} are a different molecule: {change}")
    if lost := len(starts) - len(np.unique(starts, axis=0)):
        notes.append(
            f"{lost} of {len(starts)} chains share their start with others: R-hat cannot "
            "detect what all of them miss"
        )
    if len(Rotors.of(molecule)) == 0:
        notes.append(
            "no rotatable bond: chains start from embeddings, and sample vibrations and "
            "what they lead to, such as other ring conformations"
        )
    if (drawn := len(draws.energies)) < n_draws:
        notes.append(f"interrupted: {drawn} of {n_draws} samples of each chain were drawn")
    return notes


def _ensemble(
    molecule: Molecule,
    draws: Draws,
    level: LevelSettings,
    temperature: float,
    provenance: EnsembleProvenance,
) -> Ensemble:
    numbers, chains = np.indices(draws.energies.shape).reshape(2, -1)
    return Ensemble(
        molecule=molecule,
        positions=draws.positions.reshape(-1, molecule.n_atoms, 3),
        energies=draws.energies.ravel(),
        weights=np.full(chains.size, 1 / chains.size),
        temperature=temperature,
        level=level,
        starts=tuple(f"chain {i}" for i in chains),
        provenance=provenance,
        columns={"chain": chains, "draw": numbers},
    )
