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
from diffrelax.sampling.conformers.funnel import PART, Funnel
from diffrelax.sampling.conformers.moves import cross, kick, soft_modes
from diffrelax.sampling.conformers.record import Conformer, find_same, within
from diffrelax.sampling.conformers.steps import Steps, same_wells
from diffrelax.sampling.conformers.unseen import MEMORY, Unseen
from diffrelax.sampling.conformers.wells import other_wells, telling_torsions
from diffrelax.units import KCAL_PER_MOL

PROBE = 30  # embeddings in the first round
ROUND = {"embedded": 10, "crossed": 15, "kicked": 15}  # starts of each later round
MOST_ROUNDS = 5  # one after the other, while none leads to a low conformer
MANY = 2  # combinations of wells for each geometry that may be relaxed, which is too many for all
BATCH = 200  # turned geometries, about, after which the lowest are chosen again
HIGH = 20 * KCAL_PER_MOL  # above the lowest by a force field, which may be wrong by so much
FALLS = 20  # geometries whose fall to their minimum tells that of others
LARGEST = 0.95  # quantile of the falls that others are granted
T = TypeVar("T")
COUNTED = ("tried", "other_molecules", "high", "beyond_n", "relaxed")
Place = int | None
Start = tuple[Conformer, frozenset[int]]  # and the conformers that it was made from


@dataclass(frozen=True, eq=False)
class Found:
    """What a search has found.

    Parameters
    ----------
    conformers : list of Conformer
        Distinct geometries near minima of the surface, by rising energy.
    before : dict from str to Molecule
        The geometry of the model that led to each, by its start.
    lost : list of (Conformer, str)
        Geometries that reach no minimum of the surface, and why.
    unseen : Unseen
        The estimate of low conformers that were not found.
    counts : dict of str to int
        ``tried`` geometries, of which were ``other_molecules``, ``high`` by the force field or the
        surface, ``beyond_n`` or ``relaxed``, the rest being known.
    notes : list of str
        What to beware of, and what failed.
    """

    conformers: list[Conformer]
    before: dict[str, Molecule]
    lost: list[tuple[Conformer, str]]
    unseen: Unseen
    counts: dict[str, int]
    notes: list[str]


def find_conformers(
    molecule: Molecule,
    model: Model,
    n: int,
    *,
    surface: Funnel,
    model_level: str,
    seed: int = 42,
    kind: str = "step",
    workers: int = 1,
    progress: bool = False,
) -> Found:
    """Find distinct geometries near the minima of a cheap level of theory.

    Embeddings come first, half of them with ETKDGv3 and half without the torsions that it prefers
    (KDG): thirty, or ``n`` / 2 where wells combine to more than 2 ``n``, too many for all to be
    tried. Each geometry within the window is then turned about each rotor into its other wells, the
    lowest first, and so are those that come of it, until no well is left. MMFF94 (or UFF) relaxes
    what was turned with the torsions held, then free, and the latter counts if it stays in its
    well: the surface may have a minimum where MMFF94 has none. It does without the charges then,
    which would fold different wells into one (Hawkins et al. 2010, doi 10.1021/ci100031x), but has
    them in embeddings, as some wells are only there with charges.

    Of what is new, an energy of the surface tells what cannot end within the window: what others
    fell on their way to a minimum, it may fall as well. The rest is relaxed by the model, and from
    there on the surface until it is near a minimum.

    Rounds of independent starts follow, that look for what no turn leads to: fresh embeddings,
    crossings of two low conformers, and kicks along soft modes. What they find that is low and new
    is turned in its turn. The search ends when the estimate of what is unseen is small, see
    `Unseen`, or when ``n`` geometries were relaxed.

    Parameters
    ----------
    molecule : Molecule
    model : Model
    n : int
        Geometries that are relaxed, at most.
    surface : Funnel
        With a cheap level, its store, which keeps each step, and the window.
    model_level : str
        Level of theory of the model, one that it has learned.
    seed : int
        Of the embeddings, and of chance.
    kind : str
        Of the units that are steps.
    workers : int
        Number of processes that relax on the surface.
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
        check_seed(seed + MOST_ROUNDS * PROBE * (n + 1))
    except ValueError as error:
        raise InputError(f"seed {seed} with n = {n}: use a smaller one; {error}") from error
    if reason := outside_domain(molecule, model):
        raise InputError(f"{molecule.name}: {reason}")
    steps = Steps(molecule, model, model_level, surface.level, surface.store, kind)
    with progress_bar(None, "step", "search", show=progress) as bar:
        search = _Search(steps, n, surface, seed, workers, bar)
        try:
            while search.probe():
                while turned := search.turn():
                    search.settle(turned)
        finally:
            steps.store.flush()
    return search.result()


class _Search:
    """Geometries that are known, by the force field and near minima, and where to look next."""

    def __init__(
        self, steps: Steps, n: int, surface: Funnel, seed: int, workers: int, bar: tqdm[Any]
    ) -> None:
        molecule = steps.molecule
        self.steps, self.molecule, self.n, self.bar = steps, molecule, n, bar
        self.surface, self.workers, self.seed = surface, workers, seed
        self.window = surface.window * KCAL_PER_MOL
        self.rng = np.random.default_rng(seed)
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
        self.leads_to: list[Place] = []  # of each rough geometry, the place in `found`
        self.found: list[Conformer] = []
        self.before: dict[str, Molecule] = {}  # geometries of the model, by start
        self.lost: list[tuple[Conformer, str]] = []
        self.falls: list[float] = []  # from the force field's geometries to near minima, eV
        self.landings: list[bool] = []  # of independent moves to low conformers: a new one?
        self.modes: dict[str, np.ndarray] = {}
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
        """Look for what is unseen until something is low; tell whether the search goes on."""
        for _ in range(MOST_ROUNDS):
            if self.is_at_n():
                return False
            n_landings = len(self.landings)
            self.land(self.first_starts() if not self.n_embedded else self.fresh_starts())
            if landed := self.landings[n_landings:]:
                return any(landed) or not self.is_complete()
        return False

    def is_at_n(self) -> bool:
        """Tell whether as many geometries were relaxed, or independent moves made, as allowed."""
        return max(self.counts["relaxed"], len(self.landings)) >= self.n

    def is_complete(self) -> bool:
        """Tell whether few low conformers are likely to be unseen."""
        return self.unseen().is_small(len(self.low_places()))

    def first_starts(self) -> list[Start]:
        """Embed for the first time: more often where there are too many wells for all."""
        many = self.n_combined > MANY * self.n
        n = max(PROBE, self.n // 2) if many else PROBE
        self.plan(n)
        return [(one, frozenset()) for one in self.embed(n)]

    def fresh_starts(self) -> list[Start]:
        """Make the starts of a later round."""
        self.plan(sum(ROUND.values()))
        embedded = [(one, frozenset[int]()) for one in self.embed(ROUND["embedded"])]
        low = self.low_places()
        return [
            *embedded,
            *self.crossed(low, ROUND["crossed"]),
            *self.kicked(low, ROUND["kicked"]),
        ]

    def land(self, starts: Sequence[Start]) -> None:
        """Settle independent starts, and note which of them end in low conformers, and new ones."""
        known = set(range(len(self.found)))
        places = self.settle([start for start, _ in starts])
        low = set(self.low_places())
        for place, (_, parents) in zip(places, starts, strict=True):
            if place is not None and place in low and place not in parents:
                self.landings.append(place not in known)
                known.add(place)

    def unseen(self) -> Unseen:
        """Estimate what is unseen from the last moves."""
        last = self.landings[-MEMORY:]
        return Unseen(len(last), sum(last))

    def low_places(self) -> list[int]:
        """Return the places of the low conformers among all."""
        lowest = min((one.energy for one in self.found), default=nan)
        return [i for i, one in enumerate(self.found) if one.energy <= lowest + self.window]

    def crossed(self, low: Sequence[int], n: int) -> list[Start]:
        """Cross pairs of low conformers into wells that are not known, or those of a low one."""
        starts: list[Start] = []
        for _ in range(n if len(low) > 1 and len(self.rotors) > 1 else 0):
            pair = self.rng.choice(low, 2, replace=False).tolist()
            one, other = (self.found[i].molecule.positions for i in pair)
            positions = cross(self.rotors, one, other, self.rng)
            relax = partial(self.relaxed_roughly, positions)
            name = f"crossed {self.counts['tried'] + len(starts)}"
            if rough := self.attempt(name, relax, random=True):
                starts.append((Conformer(name, rough), frozenset(pair)))
            self.bar.update()
        return starts

    def kicked(self, low: Sequence[int], n: int) -> list[Start]:
        """Kick low conformers along their soft modes, and relax them by the force field."""
        starts: list[Start] = []
        for _ in range(n if low and self.charged else 0):
            place = int(self.rng.choice(low))
            name = f"kicked {self.counts['tried'] + len(starts)}"
            relax = partial(self.relaxed_kick, self.found[place])
            if rough := self.attempt(name, relax, random=True):
                starts.append((Conformer(name, rough), frozenset([place])))
            self.bar.update()
        return starts

    def relaxed_kick(self, parent: Conformer) -> Molecule:
        """Kick a conformer once, and relax it by the force field with its charges."""
        assert self.charged
        if parent.start not in self.modes:
            self.modes[parent.start] = soft_modes(parent.molecule, self.charged)
        positions = kick(parent.molecule.positions, self.modes[parent.start], self.rng)
        return self.steps.relax_free(positions, self.charged)

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
        return n_wells + sum(ROUND.values())

    def settle(self, starts: Sequence[Conformer]) -> list[Place]:
        """Bring geometries that are new near minima, and find their places among all.

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
        for first in range(0, len(fresh), PART):
            self.relax([i for i in fresh[first : first + PART] if not high[i]])
        self.counts["high"] += int(high[fresh.start :].sum())
        self.bar.update(len(starts) - len(fresh))
        self.plan(self.n_left())
        return [None if i is None else self.leads_to[i] for i in rough]

    def relax(self, chosen: Sequence[int]) -> None:
        """Bring rough geometries near minima, if these may be low, and find their places."""
        energies = self.screened(chosen)
        room = self.n - self.counts["relaxed"]
        kept = [i for i in chosen if i in energies]
        self.counts["beyond_n"] += len(kept[room:])
        kept = kept[:room]
        self.counts["relaxed"] += len(kept)
        near = self.steps.relax([self.rough[i].molecule for i in kept])
        starts = [
            replace(self.rough[i], molecule=molecule, energy=energies[i])
            for i, molecule in zip(kept, near, strict=True)
        ]
        ends = self.surface.approach_each(starts, workers=self.workers)
        self.bar.update(len(chosen) - len(kept))
        for i, start, (end, reason) in zip(kept, starts, ends, strict=True):
            self.bar.update()
            if reason:
                self.lost.append((start, reason))
                continue
            if start.start != "given":
                self.falls.append(start.energy - end.energy)
            self.before[start.start] = start.molecule
            self.leads_to[i] = self.add(end)

    def screened(self, chosen: Sequence[int]) -> dict[int, float]:
        """Return the energies of rough geometries that may end within the window, by place."""
        energies: dict[int, float] = {}
        found = self.steps.energies([self.rough[i].molecule for i in chosen])
        lowest = min((one.energy for one in self.found), default=inf)
        limit = inf
        if len(self.falls) >= FALLS and self.force_field:
            limit = lowest + self.window + float(np.quantile(self.falls, LARGEST))
        for i, energy in zip(chosen, found, strict=True):
            if isinstance(energy, Exception):
                self.notes.append(f"{self.rough[i].start}: no energy: {reason_of(energy)}")
            elif energy <= limit or self.rough[i].start == "given":
                energies[i] = energy
            else:
                self.counts["high"] += 1
        return energies

    def add(self, end: Conformer) -> int:
        """Find the place of a geometry near a minimum among all, or add it."""
        place = find_same(end, self.found)
        if place is None:
            place = len(self.found)
            self.found.append(end)
            self.visit(end.molecule.positions)
        return place

    def high(self) -> np.ndarray:
        """Tell which rough geometries are high by the force field, without its charges and with.

        A salt bridge is high without them, and what has none may be high with them.
        """
        heights = np.array(self.heights).reshape(-1, 2)
        lowest = np.where(np.isnan(heights), inf, heights).min(axis=0, initial=inf)
        return (heights > lowest + HIGH).all(axis=1)

    def place(self, start: Conformer) -> Place:
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

    def attempt(self, what: str, work: Callable[[], T], *, random: bool = False) -> T | None:
        """Do some work on one start; None where it meets an error inside.

        A note tells of it, unless the start is random, in which atoms may come to one place.
        """
        (end,) = each_or_error(lambda _: [work()], [what])
        if isinstance(end, Exception):
            if random and isinstance(end, InputError):
                return None
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
        notes = list(self.notes)
        if self.is_at_n() and not self.is_complete():
            notes.append(f"the search ended at n = {self.n}: increase n to find more")
        return Found(found, self.before, self.lost, self.unseen(), self.counts, notes)


def _force_field(molecule: Molecule, *, charges: bool = False) -> ForceField | None:
    for level in ("mmff94", "uff"):
        try:
            return ForceField(molecule, level, charges=charges)
        except ValueError:
            continue
    return None
