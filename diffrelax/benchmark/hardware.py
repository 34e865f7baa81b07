"""The machine that a number was measured on, in words."""

from __future__ import annotations

import platform
from pathlib import Path

import torch


def describe_hardware(device: str) -> str:
    """Name the processor, or the GPU, and the threads in use."""
    threads = f"{torch.get_num_threads()} threads"
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name(device)}, {threads}"
    return f"{name_processor()}, {threads}, torch {torch.__version__}"


def name_processor() -> str:
    """Name the processor of this machine."""
    names = [platform.processor() or platform.machine()]
    if (cpuinfo := Path("/proc/cpuinfo")).is_file():
        lines = cpuinfo.read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0]
