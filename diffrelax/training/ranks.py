"""The processes that train one model together, each on its part of every batch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import distributed


class Ranks(NamedTuple):
    """One process among all that train together.

    Attributes
    ----------
    rank : int
        Its number; 0 writes the files.
    world : int
        How many there are.
    """

    rank: int = 0
    world: int = 1

    @property
    def part(self) -> slice:
        """The molecules of a batch, of like size one after the other, that fall to this process."""
        return slice(self.rank, None, self.world)

    def add_up(self, values: dict[str, float], device: torch.device) -> dict[str, float]:
        """Add the values of all processes."""
        if self.world == 1:
            return values
        sums = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
        distributed.all_reduce(sums)
        return dict(zip(values, sums.tolist(), strict=True))


@contextmanager
def joined_ranks(device: str) -> Iterator[Ranks]:
    """Join the other processes that ``torchrun`` started, if it started this one."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield Ranks()
        return
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Ranks(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
