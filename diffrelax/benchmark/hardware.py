"""Descriptions of the hardware of measurements."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from diffrelax.levels.pyscf_library import pyscf_kernels

CPUINFO = Path("/proc/cpuinfo")


def describe_hardware(device: str) -> str:
    """Describe the processor or the GPU, and the number of threads."""
    threads = f"{torch.get_num_threads()} threads"
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name(device)}, {threads}"
    return f"{name_processor()}, {threads}, torch {torch.__version__}"


def describe_dft_hardware(threads: int) -> str:
    """Describe the processor, the number of threads, and the kernels of PySCF's BLAS."""
    return ", ".join(filter(None, [name_processor(), f"{threads} threads", pyscf_kernels()]))


def name_processor() -> str:
    """Return the name of this machine's processor."""
    lines = CPUINFO.read_text(encoding="utf-8").splitlines() if CPUINFO.is_file() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
