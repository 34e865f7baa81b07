"""Speed and memory of relaxation and training: ``python analysis/speed.py``.

Prints the wall time for each molecule of one call with molecules at their MMFF94 geometries,
that of a single molecule, the time of ``diffrelax relax CCO`` from a cold start, the peak memory of
relaxing them, the rate of training, and what one evaluation of the network costs: forward, with
its gradient, and by the number of atoms, beside the floor that matrix products set.
"""

from __future__ import annotations

import argparse
import copy
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scaling import ScalingRow, matrix_product_rate, median_seconds, scaling

from diffrelax.atomic import write_text
from diffrelax.benchmark.hardware import describe_hardware
from diffrelax.benchmark.sample import Sample, choose_sample
from diffrelax.data.qm9 import load_qm9
from diffrelax.models.release import DEFAULT, Model, load_model
from diffrelax.relaxation import relax_molecules
from diffrelax.training.geometries import Batch, GeometrySet, collate
from diffrelax.training.step import start_state, training_step

PROGRAM = str(Path(sys.executable).with_name("diffrelax"))


@dataclass(frozen=True)
class Speed:
    """What has been measured.

    Parameters
    ----------
    n : int
        Molecules in one call.
    each_milliseconds, one_milliseconds : float
        For each molecule of that call, and for a single one after loading.
    cold_start_seconds : float
    peak_mib : int
        Memory of this process when it has relaxed them.
    network_milliseconds : dict
        For each molecule of a batch of typical ones, by precision: forward, forward and backward.
    training_rate : float
        Molecules per second, of the model's own configuration.
    matrix_product_rate : float
        Floating-point operations per second.
    scaling : tuple of ScalingRow
    """

    n: int
    each_milliseconds: float
    one_milliseconds: float
    cold_start_seconds: float
    peak_mib: int
    network_milliseconds: dict[str, tuple[float, float]]
    training_rate: float
    matrix_product_rate: float
    scaling: tuple[ScalingRow, ...]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, prog="analysis/speed.py")
    parser.add_argument("--model", default=DEFAULT)
    parser.add_argument("--data", type=Path, help="packed set (.npz) instead of QM9")
    parser.add_argument("--level", help="level of the minima, for a set with several")
    parser.add_argument("-n", type=int, default=1000, help="molecules in one call")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="processor threads")
    parser.add_argument("-o", type=Path, metavar="FILE", help="output: .json")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    model = load_model(options.model, options.device)
    geometries = GeometrySet.load(options.data) if options.data else load_qm9("validation")
    sample = choose_sample(geometries, options.n, level=options.level)
    cold = [PROGRAM, "relax", "CCO", "--model", options.model, "--device", options.device]
    cold += ["--threads", str(options.threads)] if options.threads else []
    speed = measure(model, geometries, sample, cold)
    print(f"model: {model.name}, {options.device}, {torch.get_num_threads()} threads")
    print(report(speed, model))
    if options.o:
        record = {
            "command": shlex.join(["python", parser.prog, *sys.argv[1:]]),
            "model": model.name,
            "sha256": model.sha256,
            "split": options.data.name if options.data else "validation",
            "hardware": describe_hardware(options.device),
        }
        write_text(options.o, json.dumps(record | asdict(speed), indent=1) + "\n")


def measure(model: Model, geometries: GeometrySet, sample: Sample, command: list[str]) -> Speed:
    """Measure with molecules to relax, a data set to train on, and a command to start cold."""
    known = geometries.known_as(model.config.network.levels)
    batch = _typical(known, model.config.training.batch_size).to(model.device)
    starts = sample.starts
    relax = partial(relax_molecules, model=model, level=sample.level or None)
    relax(starts[:1])
    many = _seconds(lambda: relax(starts))
    one = median_seconds(lambda: relax(starts[:1]))
    cold = _seconds(lambda: subprocess.run(command, check=True, capture_output=True))
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rate = matrix_product_rate(model.device)
    return Speed(
        n=len(starts),
        each_milliseconds=1e3 * many / len(starts),
        one_milliseconds=1e3 * one,
        cold_start_seconds=cold,
        peak_mib=peak // (1024**2 if sys.platform == "darwin" else 1024),
        network_milliseconds={
            name: _network(model, batch, half)
            for name, half in (("float32", False), ("bfloat16", True))
        },
        training_rate=_training_rate(model, batch),
        matrix_product_rate=rate,
        scaling=tuple(scaling(model, rate)),
    )


def report(speed: Speed, model: Model) -> str:
    """Format what has been measured for people."""
    size = model.config.training.batch_size
    lines = [
        f"{speed.n} molecules in one call: {speed.each_milliseconds:.1f} ms each",
        f"one molecule, after loading: {speed.one_milliseconds:.0f} ms",
        f"diffrelax relax CCO from a cold start: {speed.cold_start_seconds:.1f} s",
        f"peak memory: {speed.peak_mib} MiB",
        f"training, batches of {size} at most: {speed.training_rate:.0f} molecules per second",
        f"network, up to {size} molecules of typical size, ms per molecule:",
        *(
            f"  {name}: forward {forward:.2f}, forward and backward {both:.2f}"
            for name, (forward, both) in speed.network_milliseconds.items()
        ),
        f"matrix products: {speed.matrix_product_rate / 1e9:.0f} GFLOP/s in float32",
        "one evaluation in float32, ms per molecule, and times its matrix products at that rate:",
        *(
            f"  {row.n_atoms:3} atoms, {row.batch:3} in one call: {row.milliseconds:8.2f}, "
            f"{row.milliseconds / row.floor_milliseconds:.1f}"
            for row in speed.scaling
        ),
    ]
    return "\n".join(lines)


def _typical(geometries: GeometrySet, n: int) -> Batch:
    middle = max(0, len(geometries) - n) // 2
    chosen = np.argsort(geometries.sizes)[middle : middle + n]
    return collate(geometries, chosen, np.ones(len(geometries), dtype=bool))


def _network(model: Model, batch: Batch, half: bool) -> tuple[float, float]:
    denoiser = copy.deepcopy(model.denoiser).requires_grad_(True)
    sigma = torch.full((len(batch.numbers),), 0.1, device=model.device)

    def evaluate() -> torch.Tensor:
        with torch.autocast(model.device.type, torch.bfloat16, enabled=half):
            return denoiser(batch.numbers, batch.starts, sigma, sigma > 0, batch.context)

    def forward() -> None:
        with torch.no_grad():
            evaluate().sum().item()

    def both() -> None:
        denoiser.zero_grad()
        evaluate().sum().backward()
        next(denoiser.parameters()).grad.sum().item()  # type: ignore[union-attr]

    each = 1e3 / len(batch.numbers)
    return each * median_seconds(forward), each * median_seconds(both)


def _training_rate(model: Model, batch: Batch) -> float:
    state = start_state(model.config, model.device, "")
    step = median_seconds(lambda: training_step(state, batch, model.config.training))
    return len(batch.numbers) / step


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
