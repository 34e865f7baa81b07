"""Parallel processes that train one model, each on its part of every batch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple

import torch
from torch import Tensor, distributed

from diffrelax.clock import Time

PATIENCE = timedelta(hours=2)  # for the others, while the first process validates and calibrates


class Ranks(NamedTuple):
    """One of the parallel processes.

    Attributes
    ----------
    rank : int
        Rank of this process; rank 0 writes the files.
    world : int
        Number of processes.
    """

    rank: int = 0
    world: int = 1

    @classmethod
    def here(cls) -> Ranks:
        """Return this process, after it has joined the process group."""
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def part(self) -> slice:
        """Molecules of a batch, which is sorted by size, that this process works on."""
        return slice(self.rank, None, self.world)

    def add_up(self, values: dict[str, float], device: torch.device) -> dict[str, float]:
        """Sum values over all processes."""
        if self.world == 1:
            return values
        sums = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
        distributed.all_reduce(sums)
        return dict(zip(values, sums.tolist(), strict=True))

    def agree_on(self, value: float, device: torch.device) -> bool:
        """Return whether all processes have the same value."""
        squares = self.add_up({"sum": value, "squares": value**2}, device)
        return self.world * squares["squares"] == squares["sum"] ** 2

    def time_of_all(self, own: Time, device: torch.device) -> Time:
        """Return the wall time of this process and the processor time summed over all."""
        return Time(own.wall, self.add_up({"processor": own.processor}, device)["processor"])


@contextmanager
def joined_ranks(device: torch.device) -> Iterator[Ranks]:
    """Join the process group, if ``torchrun`` started this process.

    At the end, processes wait for each other, so that none continues before the first process has
    written all files.
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
    """Return whether ``torchrun`` started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_first() -> bool:
    """Return whether this is the process that reports for all."""
    return os.environ.get("RANK", "0") == "0"


def share_out(function: Callable[[Tensor], Tensor], items: Tensor) -> Tensor:
    """Apply a shape-preserving function to items, (k, ...), divided among the processes."""
    if not distributed.is_initialized():
        return function(items)
    part = Ranks.here().part
    results = torch.zeros_like(items)
    results[part] = function(items[part])
    distributed.all_reduce(results)
    return results
