"""How many low conformers a search has not seen, estimated from what its last moves found."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf

from scipy.stats import beta

MEMORY = 100  # moves that the estimate rests on
CONFIDENCE = 0.95
FEW = 0.05  # of all low conformers, which may stay unseen
HARDER = 2.0  # times less often than others, unseen ones are reached


@dataclass(frozen=True)
class Unseen:
    """What is known of low conformers that a search has not found.

    Fresh embeddings, crossings and kicks that end in a low conformer either find a new one or one
    that is known. The share that is new is the share that is unseen, weighted by how often each is
    reached (Good 1953, doi 10.1093/biomet/40.3-4.237); its interval is that of Jeffreys.

    Parameters
    ----------
    landings : int
        Independent moves that ended in a low conformer, of the last ones.
    new : int
        Those that found a new one.
    """

    landings: int
    new: int

    def most(self, found: int) -> float:
        """Return the upper end of the interval of 95% of how many there are, if so many are found.

        Infinite where no move has landed.
        """
        if not self.landings:
            return inf
        share = beta.ppf(CONFIDENCE, self.new + 0.5, self.landings - self.new + 0.5)
        return found * (1 + HARDER * share / (1 - share))

    def is_small(self, found: int) -> bool:
        """Tell whether so few are unseen that the search may end."""
        return self.most(found) - found < max(1.0, FEW * found)

    def described(self, found: int, window: float) -> str:
        """Say how many there are within a window, kcal/mol, if so many are found."""
        what = f"found {found} within {window:g} kcal/mol of the lowest"
        if not self.landings:
            return f"{what}; how many there are is unknown: no fresh start led to a low one"
        unseen = self.most(found) - found
        upper = found + (ceil(unseen) if unseen >= 0.5 else 0)
        estimate = f"{found} to {upper}" if upper > found else f"{found}"
        return (
            f"{what}, of an estimated {estimate} (95%): of the last {self.landings} independent "
            f"moves to low conformers, {self.new} led to a new one"
        )
