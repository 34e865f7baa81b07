"""The search for the conformers of a molecule: embeddings, and torsions turned into all wells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf, isfinite, nan, prod
from typing import Any, Literal, TypeVar

import numpy as np
from tqdm.auto import tqdm

from diffrelax.errors import InputError, each_or_error, reason_of
from diffrelax.geometry import angles_apart
from diffrelax.levels import get_calculator
from diffrelax.levels.force_field import ForceField
from diffrelax.models.domain import outside_domain
from diffrelax.models.release import Model
from diffrelax.molecule import Molecule
from diffrelax.molecule.embedding import check_seed
from diffrelax.molecule.identity import identity_change, mirror_image
from diffrelax.molecule.reembedding import embed_again
from diffrelax.molecule.torsions import Rotors, torsion_angles
from diffrelax.relaxation import relax_molecules
from diffrelax.sampling.conformers.record import Conformer, find_same, within
from diffrelax.sampling.conformers.wells import other_wells, telling_torsions
from diffrelax.sampling.ensemble import Level
from diffrelax.units import KCAL_PER_MOL

PROBE = 30  # embeddings at a time
MOST_PROBES = 5  # one after the other, while none is low
MANY = 2  # combinations of wells for each geometry that may be relaxed, which is too many for all
BATCH = 200  # turned geometries, about, after which the lowest are chosen again
MINIMISER_STEPS = 1000
SAME_WELL = np.radians(45)
HIGH = 20 * KCAL_PER_MOL  # above the lowest by a force field, which may be wrong by so much
T = TypeVar("T")
COUNTED = ("tried", "other_molecules", "high", "beyond_n", "relaxed")


@dataclass(frozen=True, eq=False)
class Found:
    """What a search has found.

    Parameters
    ----------
    conformers : list of Conformer
        Distinct geometries of the model, by rising energy at the level that ranks them.
    counts : dict of str to int
        ``tried`` geometries, of which were ``other_molecules``, ``high`` by the force field,
        ``beyond_n`` or ``relaxed`` by the model, the rest being known; embeddings of the
        ``last_probe`` that are within the window, and how many of them were ``unseen`` before.
    notes : list of str
        What to beware of, and what failed.
    """

    conformers: list[Conformer]
    counts: dict[str, int]
    notes: list[str]

    @property
    def complete(self) -> bool:
        """Whether the last probe has shown something low, and nothing is left unseen."""
        counts = self.counts
        return counts["last_probe"] > 0 and not (counts["unseen"] or counts["beyond_n"])


def find_conformers(
    molecule: Molecule,
    model: Model,
    n: int,
    *,
    level: Level,
    model_level: str,
    window: float,
    seed: int = 42,
    progress: bool = False,
) -> Found:
    """Find distinct geometries near minima with the model.

    Embeddings come first, half of them with ETKDGv3 and half without the torsions that it prefers
    (KDG): thirty, or ``n`` / 2 where wells combine to more than 2 ``n``, too many for all to be
    tried. Each geometry within the window is then turned about each rotor into its other wells, the
    lowest first, and so are those that come of it, until no well is left. MMFF94 (or UFF) relaxes
    what was turned with the torsions held, then free, and the latter counts if it stays in its
    well: the level of theory may have a minimum where MMFF94 has none. It does without the charges
    then, which would fold different wells into one (Hawkins et al. 2010, doi 10.1021/ci100031x),
    but has them in embeddings, as some wells are only there with charges: without, one of the four
    conformers of N=CC(O)C#N was not found. A well that comes both ways may so be relaxed twice by
    the model, and is then known. The model relaxes those that are new, and the level tells their
    energy.
    Fresh embeddings are the probe of what is still unseen: if one shows a new geometry within the
    window, the search goes on from there; if none does, it ends. Where none is low at all, others
    follow, up to five times as many.

    Parameters
    ----------
    molecule : Molecule
    model : Model
    n : int
        Geometries that the model relaxes, at most.
    level : Level
        A cheap one, that ranks geometries.
    model_level : str
        Level of theory of the model, one that it has learned.
    window : float, eV
        Above the lowest.
    seed : int
        Of the embeddings.
    progress : bool
        Show a progress bar on standard error.

    Raises
    ------
    ValueError
        If the model does not cover the molecule or has not learned its level, the level
        cannot describe the molecule, or ``n`` or the seed is out of range.
    """
    if n < 1:
        raise InputError(f"n = {n}: ask for at least one start")
    check_seed(seed)
    try:
        check_seed(seed + MOST_PROBES * PROBE * (n + 1))
    except ValueError as error:
        raise InputError(f"seed {seed} with n = {n}: smaller ones are needed; {error}") from error
    if reason := outside_domain(molecule, model):
        raise InputError(f"{molecule.name}: {reason}")
    hidden = None if progress else True
    with tqdm(desc="search", unit="conf", miniters=0, disable=hidden) as bar:
        search = _Search(molecule, model, n, level, model_level, window, seed, bar)
        while search.probe():
            while turned := search.turn():
                search.settle(turned)
    return search.result()


class _Search:
    """Geometries that are known, by the force field and by the model, and where to look next."""

    def __init__(
        self,
        molecule: Molecule,
        model: Model,
        n: int,
        level: Level,
        model_level: str,
        window: float,
        seed: int,
        bar: tqdm[Any] | None = None,
    ) -> None:
        self.bar = tqdm(disable=True) if bar is None else bar
        self.molecule, self.model, self.n, self.seed = molecule, model, n, seed
        self.model_level, self.window = model_level, window
        self.rotors = Rotors.of(molecule)
        self.turns = other_wells(molecule, self.rotors)
        self.n_combined = prod(1 + len(turns) for turns in self.turns)
        self.watched = telling_torsions(molecule, self.rotors, self.turns)
        self.visited = np.zeros((0, len(self.watched)))
        mirrored = not identity_change(molecule, mirror_image(molecule).positions)
        self.images = [1, -1] if mirrored else [1]  # signs of torsions that mean the same
        self.force_field = _force_field(molecule)
        self.charged = _force_field(molecule, charges=True)
        self.heights: list[tuple[float, float]] = []  # of rough ones, without charges and with
        self.atoms = molecule.to_atoms()
        self.atoms.calc = get_calculator(level.name, molecule, **level.settings)
        self.rough: list[Conformer] = []
        self.leads_to: list[int | None] = []  # of each rough geometry, the place in `found`
        self.found: list[Conformer] = []
        self.expanded: set[str] = set()
        self.counts = dict.fromkeys(COUNTED, 0)
        self.n_embedded = self.n_attempts = 0
        bonded = {frozenset(bond[:2]) for bond in molecule.bonds}
        self.notes = [
            f"{molecule.label(i)} and {molecule.label(j)} turn nearly freely about the chain "
            "between them: how many conformers are counted along that means little"
            for (i, j), turns in zip(self.rotors.bonds.tolist(), self.turns, strict=True)
            if len(turns) and {i, j} not in bonded
        ]

    def probe(self) -> bool:
        """Embed until something is low, or often enough; tell whether the search goes on."""
        for _ in range(MOST_PROBES):
            if self.counts["relaxed"] >= self.n:
                return False
            before = len(self.found)
            many = not self.n_embedded and self.n_combined > MANY * self.n
            places = self.settle(self.embed(max(PROBE, self.n // 2) if many else PROBE))
            lowest = within(self.found, self.window)
            low = [i for i in places if i is not None and self.found[i] in lowest]
            unseen = sum(i >= before for i in low)
            self.counts |= {"last_probe": len(low), "unseen": unseen}
            if low:
                return bool(unseen)
        return False

    def embed(self, n: int) -> list[Conformer]:
        """Embed with and without the torsions of crystals; the molecule itself comes first."""
        starts = []
        for _ in range(n):
            i, self.n_embedded = self.n_embedded, self.n_embedded + 1
            if i == 0:
                own = "etkdg 0" if self.molecule.is_embedded else "given"
                starts.append(Conformer(own, self.molecule))
                continue
            name = f"kdg {i}" if i % 2 else f"etkdg {i}"
            method: Literal["KDG", "ETKDGv3"] = "KDG" if i % 2 else "ETKDGv3"
            embed = partial(embed_again, self.molecule, self.seed + i, method)
            if embedded := self.attempt(name, embed):
                starts.append(Conformer(name, embedded))
        return starts

    def turn(self) -> list[Conformer]:
        """Turn the lowest geometries that were not turned yet into wells that are not known."""
        children: list[Conformer] = []
        if self.counts["relaxed"] >= self.n:
            return children
        rotor = np.repeat(np.arange(len(self.rotors)), [len(turns) for turns in self.turns])
        angles = np.concatenate([np.zeros(0), *self.turns])
        low = within(self.found, self.window)
        for parent in sorted(low, key=lambda one: one.energy):
            if len(children) >= BATCH:
                break
            if parent.start in self.expanded:
                continue
            self.expanded.add(parent.start)
            same = np.repeat(parent.molecule.positions[None], len(angles), axis=0)
            for positions in self.rotors.turn(same, rotor, angles):
                if not self.visit(positions):
                    continue
                name = f"turned {self.counts['tried'] + len(children)}"
                relax = partial(self.relaxed_roughly, positions)
                if rough := self.attempt(f"turned from {parent.start}", relax):
                    children.append(Conformer(name, rough))
        return children

    def settle(self, starts: Sequence[Conformer]) -> list[int | None]:
        """Relax geometries by the model that are new, and find their places among all.

        Returns
        -------
        list of int or None
            The place in `found` of what each leads to; None where it leads nowhere.
        """
        self.counts["tried"] += len(starts)
        rough = [self.place(start) for start in starts]
        fresh = range(len(self.leads_to), len(self.rough))
        self.leads_to += [None] * len(fresh)
        high = self.high()
        chosen = [i for i in fresh if not high[i]]
        self.counts["high"] += len(fresh) - len(chosen)
        room = self.n - self.counts["relaxed"]
        self.counts["beyond_n"] += len(chosen[room:])
        chosen = chosen[:room]
        self.counts["relaxed"] += len(chosen)
        for i, molecule in zip(chosen, self.relaxed(chosen), strict=True):
            self.rank(i, molecule)
        return [None if i is None else self.leads_to[i] for i in rough]

    def high(self) -> np.ndarray:
        """Tell which rough geometries are high by the force field, without its charges and with.

        A salt bridge is high without them, and what has none may be high with them.
        """
        heights = np.array(self.heights).reshape(-1, 2)
        lowest = np.where(np.isnan(heights), inf, heights).min(axis=0, initial=inf)
        return (heights > lowest + HIGH).all(axis=1)

    def relaxed(self, rough: Sequence[int]) -> list[Molecule]:
        """Relax rough geometries by the model, where it can.

        It does so twice, as those that were turned may be further from their minima than one goes.
        """
        molecules = [self.rough[i].molecule for i in rough]
        relax = partial(relax_molecules, model=self.model, level=self.model_level)
        able = []
        for k, end in enumerate(relax(molecules)):
            if end.verdict == "relaxed" and end.molecule:
                molecules[k] = end.molecule
                able.append(k)
            else:
                start = self.rough[rough[k]].start
                self.notes.append(f"{start}: not relaxed by the model: {end.reason}")
        for k, end in zip(able, relax([molecules[k] for k in able]), strict=True):
            molecules[k] = end.molecule or molecules[k]
        return molecules

    def place(self, start: Conformer) -> int | None:
        """Find a geometry among the rough ones, or add it; None if it is another molecule."""
        positions = start.molecule.positions
        if identity_change(self.molecule, positions):
            self.counts["other_molecules"] += 1
            return None
        heights = nan, nan
        is_given = start.start == "given"  # and at no minimum of the force field
        if self.force_field and self.charged and not is_given:
            heights = self.force_field.energy(positions), self.charged.energy(positions)
            start = replace(start, energy=heights[0])
        place = find_same(start, self.rough)
        if place is None:
            self.rough.append(start)
            self.heights.append(heights)
            return len(self.rough) - 1
        known = self.rough[place]
        self.rough[place] = replace(known, n_starts=known.n_starts + 1)
        return place

    def rank(self, rough: int, molecule: Molecule) -> None:
        """Find the place of a geometry of the model among all, by the level that ranks them."""
        one = replace(self.rough[rough], molecule=molecule)
        energy = self.attempt(f"{one.start}: not ranked", partial(self.energy_of, molecule))
        if energy is None:
            return
        one = replace(one, energy=energy)
        place = find_same(one, self.found)
        if place is None:
            place = len(self.found)
            self.found.append(one)
            self.bar.update()
            self.visit(molecule.positions)
        self.leads_to[rough] = place

    def energy_of(self, molecule: Molecule) -> float:
        """Evaluate the energy, eV, at the level that ranks; ValueError where it is not finite."""
        self.atoms.positions = molecule.positions
        energy = self.atoms.get_potential_energy()
        if not isfinite(energy):
            raise InputError(f"the energy is {energy}")
        return energy

    def attempt(self, what: str, work: Callable[[], T]) -> T | None:
        """Do some work on one start; None, and a note, where it meets an error inside."""
        self.n_attempts += 1
        self.bar.set_postfix_str(f"steps: {self.n_attempts}", refresh=False)
        self.bar.update(0)
        (end,) = each_or_error(lambda _: [work()], [what])
        if isinstance(end, Exception):
            self.notes.append(f"{what}: {reason_of(end)}")
            return None
        return end

    def visit(self, positions: np.ndarray) -> bool:
        """Tell whether the wells of the torsions are new, and know them from now on."""
        wells = torsion_angles(positions, self.watched)
        if _same_wells(self.visited, wells).any():
            return False
        self.visited = np.vstack([self.visited, *(sign * wells for sign in self.images)])
        return True

    def relaxed_roughly(self, positions: np.ndarray) -> Molecule:
        """Relax a turned geometry by the force field, if there is one, and leave it in its well."""
        if not self.force_field:
            return self.molecule.with_positions(positions, "turned")
        held = self.force_field.minimise_held(
            positions, MINIMISER_STEPS, self.rotors.torsions.tolist()
        )
        free = self.force_field.minimise_held(held, MINIMISER_STEPS)
        turned, relaxed = (torsion_angles(here, self.watched) for here in (positions, free))
        rough = free if _same_wells(relaxed, turned) else held
        self.visit(rough)
        return self.molecule.with_positions(rough, self.force_field.level)

    def result(self) -> Found:
        """Return what was found, each geometry with the number of starts that led to it."""
        n_starts = Counter[int]()
        for one, place in zip(self.rough, self.leads_to, strict=True):
            if place is not None:
                n_starts[place] += one.n_starts
        found = [replace(one, n_starts=n_starts[i]) for i, one in enumerate(self.found)]
        found.sort(key=lambda one: one.energy)
        return Found(found, self.counts, self.notes)


def _same_wells(some: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Compare torsions, (..., n_torsions) and (n_torsions,), radians; return (...) bool."""
    return (angles_apart(some, other) < SAME_WELL).all(axis=-1)


def _force_field(molecule: Molecule, *, charges: bool = False) -> ForceField | None:
    for level in ("mmff94", "uff"):
        try:
            return ForceField(molecule, level, charges=charges)
        except ValueError:
            continue
    return None
