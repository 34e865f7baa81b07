"""The processes that train one model together, each on its part of every batch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple

import torch
from torch import Tensor, distributed

from diffrelax.clock import Time

PATIENCE = timedelta(hours=2)  # of processes while the first one validates and calibrates


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

    @classmethod
    def here(cls) -> Ranks:
        """Return this process, once it has joined the others."""
        return cls(distributed.get_rank(), distributed.get_world_size())

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

    def agree_on(self, value: float, device: torch.device) -> bool:
        """Tell whether all processes have the same value."""
        squares = self.add_up({"sum": value, "squares": value**2}, device)
        return self.world * squares["squares"] == squares["sum"] ** 2

    def time_of_all(self, own: Time, device: torch.device) -> Time:
        """Return the time of all processes: by the clock this one's, of the processors the sum."""
        return Time(own.wall, self.add_up({"processor": own.processor}, device)["processor"])


@contextmanager
def joined_ranks(device: torch.device) -> Iterator[Ranks]:
    """Join the other processes that ``torchrun`` started, if it started this one.

    Those that are done wait for the others, so that no program goes on before the first process
    has written all files.
    """
    if not are_several():
        yield Ranks()
        return
    gpu = device if device.type == "cuda" else None
    distributed.init_process_group("nccl" if gpu else "gloo", timeout=PATIENCE, device_id=gpu)
    try:
        yield Ranks.here()
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


def are_several() -> bool:
    """Tell whether ``torchrun`` started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_first() -> bool:
    """Tell whether this process is the one that tells what all have done."""
    return os.environ.get("RANK", "0") == "0"


def share_out(function: Callable[[Tensor], Tensor], items: Tensor) -> Tensor:
    """Apply a function that keeps shapes to items, (k, ...), each process to some of them."""
    if not distributed.is_initialized():
        return function(items)
    part = Ranks.here().part
    results = torch.zeros_like(items)
    results[part] = function(items[part])
    distributed.all_reduce(results)
    return results
