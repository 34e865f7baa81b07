"""Speed and memory of relaxation: ``python -m diffrelax.benchmark.speed``.

Prints the wall time for each molecule of one call with QM9 molecules at their MMFF94 geometries,
that of a single molecule, the time of ``diffrelax relax CCO`` from a cold start, and the peak
memory of both processes.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from diffrelax.benchmark.geometry import choose_sample
from diffrelax.models import load_model
from diffrelax.qm9 import load_qm9
from diffrelax.relaxation import relax_molecules

COLD_START = [sys.executable, "-c", "from diffrelax.cli import main; main()", "relax", "CCO"]


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
    starts = choose_sample(load_qm9("validation"), options.n).starts
    relax_molecules(starts[:1], model)

    many = _seconds(lambda: relax_molecules(starts, model))
    one = _seconds(lambda: relax_molecules(starts[:1], model))
    cold = _seconds(lambda: subprocess.run(COLD_START, check=True, capture_output=True))
    threads = torch.get_num_threads()
    print(f"model: {model.name}, {options.device}, {threads} threads")
    print(f"{options.n} molecules in one call: {1e3 * many / options.n:.1f} ms each")
    print(f"one molecule, after loading: {1e3 * one:.0f} ms")
    print(f"diffrelax relax CCO from a cold start: {cold:.1f} s")
    print(f"peak memory: {_peak(resource.RUSAGE_SELF)} MiB, "
          f"cold start {_peak(resource.RUSAGE_CHILDREN)} MiB")  # fmt: skip


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _peak(who: int) -> int:
    return resource.getrusage(who).ru_maxrss // 1024


if __name__ == "__main__":
    main()
