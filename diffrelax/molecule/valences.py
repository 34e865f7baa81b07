"""Choice of elements and bond orders by an integer program."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations, product
from typing import NamedTuple

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

# Å, of atoms in single, double and triple bonds: Pyykkö and Atsumi 2009 (doi
# 10.1002/chem.200800987, 10.1002/chem.200901472), Pyykkö et al. 2005 (doi 10.1002/chem.200401299)
RADII = (
    {1: 0.32, 6: 0.75, 7: 0.71, 8: 0.63, 9: 0.64},
    {6: 0.67, 7: 0.60, 8: 0.57},
    {6: 0.60, 7: 0.54, 8: 0.53},
)
SPREAD = 0.06  # Å; standard deviation of bond lengths from sums of radii, and of estimates
# distances in units of a single bond: below the first, atoms coincide; up to the second, they are
# bonded; up to the third, they may be
COLLISION, BOND, CONTACT = 0.7, 1.22, 1.3
NO_BOND = 2.0  # costs are negative logarithms of probabilities
CHARGE = 2.0
CERTAINLY_NOT = 14.0
MOST_NODES = 1000  # of the search; one was enough for all of sixty molecules


class Kind(NamedTuple):
    """A possible element and charge of an atom."""

    number: int
    charge: int
    valence: int


class PossibleBond(NamedTuple):
    """A possible bond between two atoms; order 0 means none."""

    kinds: tuple[Kind, Kind]
    order: int
    cost: float


VALENCES = {1: 1, 6: 4, 7: 3, 8: 2, 9: 1}
KINDS = (*(Kind(z, 0, valence) for z, valence in VALENCES.items()), Kind(7, 1, 4), Kind(8, -1, 1))


def settle_elements(
    elements: Sequence[int], log_probabilities: np.ndarray, positions: np.ndarray
) -> np.ndarray | None:
    """Find the most probable elements that satisfy all valences.

    Elements and bond orders of a neutral molecule are chosen together, to maximise the probability
    of the elements times that of the bond lengths, which are normally distributed around sums of
    radii.

    Parameters
    ----------
    elements : sequence of int
        Atomic numbers, keys of `VALENCES`.
    log_probabilities : (n_atoms, n_elements) array
    positions : (n_atoms, 3) array, Å

    Returns
    -------
    (n_atoms,) int array or None
        Atomic numbers. None if no choice exists, atoms coincide, or the molecule is not connected.
    """
    costs = [dict(zip(elements, row, strict=True)) for row in -log_probabilities]
    kinds = [
        {kind: CHARGE * abs(kind.charge) + cost[kind.number] for kind in KINDS
         if cost.get(kind.number, np.inf) < CERTAINLY_NOT}
        for cost in costs
    ]  # fmt: skip
    likely = np.asarray(elements)[log_probabilities.argmax(axis=1)]
    pairs = _pairs(likely, positions)
    if pairs is None:
        return None
    program = _Program()
    atoms = [{kind: program.variable(cost) for kind, cost in known.items()} for known in kinds]
    orders: list[dict[int, float]] = [{} for _ in atoms]
    bonds: dict[int, tuple[int, int]] = {}
    for pair, distance, certain in pairs:
        a, b = pair
        parts: dict[int, dict[int, float]] = defaultdict(dict)
        for bond in _bonds(kinds[a], kinds[b], distance, certain):
            i = program.variable(bond.cost)
            for end, atom in enumerate(pair):
                parts[atoms[atom][bond.kinds[end]]][i] = 1.0
                if bond.order:
                    orders[atom][i] = bond.order
            if bond.order:
                bonds[i] = pair
        for atom in pair:
            for chosen in atoms[atom].values():
                program.require(parts[chosen] | {chosen: -1.0}, 0.0)
    for known, order in zip(atoms, orders, strict=True):
        program.require(dict.fromkeys(known.values(), 1.0), 1.0)
        program.require(order | {i: -float(kind.valence) for kind, i in known.items()}, 0.0)
    charges = {i: float(kind.charge) for known in atoms for kind, i in known.items()}
    program.require({i: charge for i, charge in charges.items() if charge}, 0.0)
    solution = program.solve()
    if solution is None or not _in_one_piece([bonds[i] for i in bonds if solution[i]], len(atoms)):
        return None
    return np.array([kind.number for known in atoms for kind, i in known.items() if solution[i]])


def _pairs(
    numbers: np.ndarray, positions: np.ndarray
) -> list[tuple[tuple[int, int], float, bool]] | None:
    """Return near pairs, their distances, and whether they are certainly bonded."""
    found = []
    for a, b in combinations(range(len(numbers)), 2):
        distance = float(np.linalg.norm(positions[a] - positions[b]))
        ratio = distance / (RADII[0][numbers[a]] + RADII[0][numbers[b]])
        if ratio < COLLISION:
            return None
        hydrogens = numbers[a] == numbers[b] == 1
        if ratio < (BOND if hydrogens else CONTACT):
            found.append(((a, b), distance, ratio < BOND))
    return found


def _bonds(
    one: dict[Kind, float], other: dict[Kind, float], distance: float, certain: bool
) -> Iterator[PossibleBond]:
    for kinds in product(one, other):
        if not certain:
            yield PossibleBond(kinds, 0, NO_BOND)
        for order, radii in enumerate(RADII, start=1):
            if all(kind.number in radii for kind in kinds):
                length = sum(radii[kind.number] for kind in kinds)
                off = abs(distance - length) / SPREAD
                yield PossibleBond(kinds, order, off**2 / 2 if off < 2 else 2 * off - 2)


def _in_one_piece(bonds: Sequence[tuple[int, int]], n_atoms: int) -> bool:
    ends = np.array(bonds, dtype=int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(bonds)), ends), shape=(n_atoms, n_atoms))
    return connected_components(graph, directed=False)[0] == 1


class _Program:
    """An integer program: binary choices of least cost under linear constraints."""

    def __init__(self) -> None:
        self._costs: list[float] = []
        self._terms: list[tuple[int, int, float]] = []
        self._totals: list[float] = []

    def variable(self, cost: float) -> int:
        self._costs.append(cost)
        return len(self._costs) - 1

    def require(self, weights: dict[int, float], total: float) -> None:
        self._terms += [(len(self._totals), i, weight) for i, weight in weights.items()]
        self._totals.append(total)

    def solve(self) -> np.ndarray | None:
        rows, columns, weights = zip(*self._terms, strict=True)
        shape = len(self._totals), len(self._costs)
        sums = coo_array((weights, (rows, columns)), shape=shape).tocsr()
        found = milp(
            self._costs,
            integrality=np.ones(len(self._costs)),
            bounds=Bounds(0, 1),
            constraints=LinearConstraint(sums, self._totals, self._totals),
            options={"node_limit": MOST_NODES},
        )
        return None if found.x is None else found.x > 0.5
