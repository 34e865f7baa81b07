from __future__ import annotations

from math import inf

import numpy as np
import pytest

from diffrelax.sampling.conformers.unseen import Unseen


def test_without_a_landing_nothing_is_known() -> None:
    assert Unseen(0, 0).most(3) == inf
    assert not Unseen(0, 0).is_small(3)
    assert "how many there are is unknown" in Unseen(0, 0).described(3, 6)


def test_the_more_moves_lead_to_what_is_known_the_fewer_are_unseen() -> None:
    most = [Unseen(n, 0).most(40) for n in (5, 20, 100)]
    assert most == sorted(most, reverse=True) and most[-1] < 42
    assert Unseen(100, 0).is_small(40) and not Unseen(100, 10).is_small(40)
    assert Unseen(40, 0).is_small(1)
    assert "of an estimated 40 to 42 (95%)" in Unseen(100, 0).described(40, 6)
    assert "of an estimated 1 (95%)" in Unseen(100, 0).described(1, 6)


@pytest.mark.parametrize("n_seen", [30, 45])
def test_the_interval_holds_what_is_there_where_all_are_as_easy(n_seen: int) -> None:
    rng, n_all = np.random.default_rng(0), 50
    holds = 0
    for _ in range(200):
        known, new = set(range(n_seen)), 0
        for one in rng.integers(n_all, size=100).tolist():
            new += one not in known
            known.add(one)
        holds += Unseen(100, new).most(len(known)) >= n_all
    assert holds >= 190
