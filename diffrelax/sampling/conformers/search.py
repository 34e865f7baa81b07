"""The search for the conformers of a molecule: embeddings, and torsions turned into all wells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf, nan, prod
from typing import Any, Literal, TypeVar

import numpy as np
from tqdm import tqdm

from diffrelax.errors import InputError, each_or_error, reason_of
from diffrelax.levels.force_field import ForceField
from diffrelax.models.domain import outside_domain
from diffrelax.models.release import Model
from diffrelax.molecule import Molecule
from diffrelax.molecule.embedding import check_seed
from diffrelax.molecule.identity import identity_change, mirror_image
from diffrelax.molecule.torsions import Rotors, torsion_angles
from diffrelax.progress import progress_bar
from diffrelax.sampling.conformers.record import Conformer, find_same, within
from diffrelax.sampling.conformers.steps import Steps, same_wells
from diffrelax.sampling.conformers.wells import other_wells, telling_torsions
from diffrelax.sampling.ensemble import LevelSettings
from diffrelax.store import Store
from diffrelax.units import KCAL_PER_MOL

PROBE = 30  # embeddings at a time
MOST_PROBES = 5  # one after the other, while none is low
MANY = 2  # combinations of wells for each geometry that may be relaxed, which is too many for all
BATCH = 200  # turned geometries, about, after which the lowest are chosen again
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
    level: LevelSettings,
    model_level: str,
    window: float,
    seed: int = 42,
    store: Store | None = None,
    kind: str = "step",
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
    level : LevelSettings
        A cheap one, that ranks geometries.
    model_level : str
        Level of theory of the model, one that it has learned.
    window : float, eV
        Above the lowest.
    seed : int
        Of the embeddings.
    store : Store, optional
        Keeps each step, from which a search that was interrupted continues.
    kind : str
        Of the units that are steps.
    progress : bool
        Show a progress bar on standard error.

    Raises
    ------
    ValueError
        If the model does not cover the molecule or has not learned its level, the level
        cannot describe the molecule, or ``n`` or the seed is out of range.
    """
    if n < 1:
        raise InputError(f"n = {n}: give 1 or more")
    check_seed(seed)
    try:
        check_seed(seed + MOST_PROBES * PROBE * (n + 1))
    except ValueError as error:
        raise InputError(f"seed {seed} with n = {n}: use a smaller one; {error}") from error
    if reason := outside_domain(molecule, model):
        raise InputError(f"{molecule.name}: {reason}")
    steps = Steps(molecule, model, model_level, level, store or Store(None), kind)
    with progress_bar(None, "step", "search", show=progress) as bar:
        search = _Search(steps, n, window, seed, bar)
        try:
            while search.probe():
                while turned := search.turn():
                    search.settle(turned)
        finally:
            steps.store.flush()
    return search.result()


class _Search:
    """Geometries that are known, by the force field and by the model, and where to look next."""

    def __init__(self, steps: Steps, n: int, window: float, seed: int, bar: tqdm[Any]) -> None:
        molecule = steps.molecule
        self.steps, self.molecule, self.n, self.bar = steps, molecule, n, bar
        self.window, self.seed = window, seed
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
        self.rough: list[Conformer] = []
        self.leads_to: list[int | None] = []  # of each rough geometry, the place in `found`
        self.found: list[Conformer] = []
        self.expanded: set[str] = set()
        self.counts = dict.fromkeys(COUNTED, 0)
        self.n_embedded = 0
        bonded = {frozenset(bond[:2]) for bond in molecule.bonds}
        self.notes = [
            f"{molecule.label(i)} and {molecule.label(j)} rotate almost freely about the "
            "chain between them: the number of conformers along it has little meaning"
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
            n = max(PROBE, self.n // 2) if many else PROBE
            self.plan(n)
            places = self.settle(self.embed(n))
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
            self.bar.update()
            if i == 0:
                own = "etkdg 0" if self.molecule.is_embedded else "given"
                starts.append(Conformer(own, self.molecule))
                continue
            name = f"kdg {i}" if i % 2 else f"etkdg {i}"
            method: Literal["KDG", "ETKDGv3"] = "KDG" if i % 2 else "ETKDGv3"
            embed = partial(self.steps.embed, self.seed + i, method)
            if embedded := self.attempt(name, embed):
                starts.append(Conformer(name, embedded))
        return starts

    def turn(self) -> list[Conformer]:
        """Turn the lowest geometries that were not turned yet into wells that are not known."""
        children: list[Conformer] = []
        if self.counts["relaxed"] >= self.n:
            return children
        for parent in self.low_unturned():
            if len(children) >= BATCH:
                break
            self.expanded.add(parent.start)
            for positions in self.turned(parent):
                if not self.visit(positions):
                    continue
                self.bar.update()
                name = f"turned {self.counts['tried'] + len(children)}"
                relax = partial(self.relaxed_roughly, positions)
                if rough := self.attempt(f"turned from {parent.start}", relax):
                    children.append(Conformer(name, rough))
        return children

    def low_unturned(self) -> list[Conformer]:
        """Return the low geometries that were not turned yet, by rising energy."""
        low = [one for one in within(self.found, self.window) if one.start not in self.expanded]
        return sorted(low, key=lambda one: one.energy)

    def turned(self, parent: Conformer) -> np.ndarray:
        """Turn a geometry about each rotor into its other wells; (n_turns, n_atoms, 3), Å."""
        rotor = np.repeat(np.arange(len(self.rotors)), [len(turns) for turns in self.turns])
        angles = np.concatenate([np.zeros(0), *self.turns])
        same = np.repeat(parent.molecule.positions[None], len(angles), axis=0)
        return self.rotors.turn(same, rotor, angles)

    def plan(self, n_more: int) -> None:
        """Tell the bar that so many geometries are to be made and then to be settled."""
        self.bar.total = self.bar.n + 2 * n_more
        self.bar.set_postfix_str(f"{len(self.found)} found", refresh=False)

    def n_left(self) -> int:
        """Count the unknown wells that the low geometries can be turned into, and a last probe."""
        if self.counts["relaxed"] >= self.n:
            return 0
        known, parents = self.visited, self.low_unturned()
        n_wells = sum(self.visit(here) for one in parents for here in self.turned(one))
        self.visited = known
        return n_wells + PROBE

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
        self.bar.update(len(starts) - len(chosen))
        relaxed = self.steps.relax([self.rough[i].molecule for i in chosen])
        for i, (molecule, reason) in zip(chosen, relaxed, strict=True):
            if reason:
                self.notes.append(f"{self.rough[i].start}: not relaxed by the model: {reason}")
            self.rank(i, molecule)
            self.bar.update()
        self.plan(self.n_left())
        return [None if i is None else self.leads_to[i] for i in rough]

    def high(self) -> np.ndarray:
        """Tell which rough geometries are high by the force field, without its charges and with.

        A salt bridge is high without them, and what has none may be high with them.
        """
        heights = np.array(self.heights).reshape(-1, 2)
        lowest = np.where(np.isnan(heights), inf, heights).min(axis=0, initial=inf)
        return (heights > lowest + HIGH).all(axis=1)

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
        energy = self.attempt(f"{one.start}: not ranked", partial(self.steps.energy, molecule))
        if energy is None:
            return
        one = replace(one, energy=energy)
        place = find_same(one, self.found)
        if place is None:
            place = len(self.found)
            self.found.append(one)
            self.visit(molecule.positions)
        self.leads_to[rough] = place

    def attempt(self, what: str, work: Callable[[], T]) -> T | None:
        """Do some work on one start; None, and a note, where it meets an error inside."""
        (end,) = each_or_error(lambda _: [work()], [what])
        if isinstance(end, Exception):
            self.notes.append(f"{what}: {reason_of(end)}")
            return None
        return end

    def visit(self, positions: np.ndarray) -> bool:
        """Tell whether the wells of the torsions are new, and know them from now on."""
        wells = torsion_angles(positions, self.watched)
        if same_wells(self.visited, wells).any():
            return False
        self.visited = np.vstack([self.visited, *(sign * wells for sign in self.images)])
        return True

    def relaxed_roughly(self, positions: np.ndarray) -> Molecule:
        """Relax a turned geometry by the force field, if there is one, and leave it in its well."""
        if not self.force_field:
            return self.molecule.with_positions(positions, "turned")
        rough = self.steps.relax_roughly(
            positions, self.force_field, self.rotors.torsions, self.watched
        )
        self.visit(rough.positions)
        return rough

    def result(self) -> Found:
        """Return what was found, each geometry with the number of starts that led to it."""
        n_starts = Counter[int]()
        for one, place in zip(self.rough, self.leads_to, strict=True):
            if place is not None:
                n_starts[place] += one.n_starts
        found = [replace(one, n_starts=n_starts[i]) for i, one in enumerate(self.found)]
        found.sort(key=lambda one: one.energy)
        return Found(found, self.counts, self.notes)


def _force_field(molecule: Molecule, *, charges: bool = False) -> ForceField | None:
    for level in ("mmff94", "uff"):
        try:
            return ForceField(molecule, level, charges=charges)
        except ValueError:
            continue
    return None
