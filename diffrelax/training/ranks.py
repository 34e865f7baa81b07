"""The processes that train one model together, each on its part of every batch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, distributed

from diffrelax.clock import Time


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

    def time_of_all(self, own: Time, device: torch.device) -> Time:
        """Return the time of all processes: by the clock this one's, of the processors the sum."""
        return Time(own.wall, self.add_up({"processor": own.processor}, device)["processor"])


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


def share_out(function: Callable[[Tensor], Tensor], items: Tensor) -> Tensor:
    """Apply a function that keeps shapes to items, (k, ...), each process to some of them."""
    if not distributed.is_initialized():
        return function(items)
    part = Ranks(distributed.get_rank(), distributed.get_world_size()).part
    results = torch.zeros_like(items)
    results[part] = function(items[part])
    distributed.all_reduce(results)
    return results
