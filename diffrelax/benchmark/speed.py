"""Speed and memory of relaxation: ``python -m diffrelax.benchmark.speed``.

Prints the wall time for each molecule of one call with QM9 molecules at their MMFF94 geometries,
that of a single molecule, the time of ``diffrelax relax CCO`` from a cold start, the peak memory
of both processes, and what one evaluation of the network costs, forward and with its gradient.
"""

from __future__ import annotations

import argparse
import copy
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from diffrelax.benchmark.geometry import choose_sample
from diffrelax.models import Model, load_model
from diffrelax.qm9 import load_qm9
from diffrelax.relaxation import relax_molecules
from diffrelax.training.geometries import Batch, collate

BATCH = 64
REPEATS = 10
COLD_START = [str(Path(sys.executable).with_name("diffrelax")), "relax", "CCO"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, prog="diffrelax.benchmark.speed")
    parser.add_argument("--model", default="relax-qm9")
    parser.add_argument("-n", type=int, default=1000, help="molecules in one call")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="processor threads")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    model = load_model(options.model, options.device)
    geometries = load_qm9("validation")
    starts = choose_sample(geometries, options.n).starts
    relax_molecules(starts[:1], model)

    many = _seconds(lambda: relax_molecules(starts, model))
    one = _seconds(lambda: relax_molecules(starts[:1], model))
    cold = _seconds(lambda: subprocess.run(COLD_START, check=True, capture_output=True))
    middle = (len(geometries) - BATCH) // 2
    typical = np.argsort(geometries.sizes)[middle : middle + BATCH]
    batch = collate(geometries, typical, np.ones(len(geometries), dtype=bool))
    threads = torch.get_num_threads()
    print(f"model: {model.name}, {options.device}, {threads} threads")
    print(f"{options.n} molecules in one call: {1e3 * many / options.n:.1f} ms each")
    print(f"one molecule, after loading: {1e3 * one:.0f} ms")
    print(f"diffrelax relax CCO from a cold start: {cold:.1f} s")
    print(f"peak memory: {_peak(resource.RUSAGE_SELF)} MiB, "
          f"cold start {_peak(resource.RUSAGE_CHILDREN)} MiB")  # fmt: skip
    print(f"network, {BATCH} molecules of {batch.numbers.shape[1]} atoms at most, ms per molecule:")
    for half in (False, True):
        forward, both = _network(model, batch.to(model.device), half)
        print(f"  {'bfloat16' if half else 'float32'}: forward {forward:.2f}, "
              f"forward and backward {both:.2f}")  # fmt: skip


def _network(model: Model, batch: Batch, half: bool) -> tuple[float, float]:
    denoiser = copy.deepcopy(model.denoiser).requires_grad_(True)
    sigma = torch.full((BATCH,), 0.1, device=model.device)

    def evaluate() -> torch.Tensor:
        with torch.autocast(model.device.type, torch.bfloat16, enabled=half):
            return denoiser(batch.numbers, batch.starts, sigma, sigma > 0)

    def forward() -> None:
        with torch.no_grad():
            evaluate().sum().item()

    def both() -> None:
        denoiser.zero_grad()
        evaluate().sum().backward()
        next(denoiser.parameters()).grad.sum().item()  # type: ignore[union-attr]

    medians = []
    for work in (forward, both):
        work()
        medians.append(statistics.median(_seconds(work) for _ in range(REPEATS)))
    return 1e3 * medians[0] / BATCH, 1e3 * medians[1] / BATCH


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _peak(who: int) -> int:
    unit = 1024**2 if sys.platform == "darwin" else 1024
    return resource.getrusage(who).ru_maxrss // unit


if __name__ == "__main__":
    main()
