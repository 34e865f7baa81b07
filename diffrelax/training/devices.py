"""Devices that the network runs on, and checks of them before long calculations."""

from __future__ import annotations

import os

import torch

from diffrelax.errors import InputError


def check_device(device: str) -> None:
    """Check that a device can be used.

    Raises
    ------
    ValueError
        If it cannot be used.
    """
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"the device {device!r} cannot be used: {error}") from error


def check_compiler(device: str) -> None:
    """Check, with a small function, that `torch.compile` works on a device.

    Raises
    ------
    ValueError
        If it does not work.
    """
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.zeros(8, device=device))
    except RuntimeError as error:
        raise InputError(
            "the network cannot be compiled here: install a C++ compiler and the headers "
            "of Python (Debian: g++ and python3-dev), or leave out --compile: "
            f"{str(error).splitlines()[0]}"
        ) from error


def own_device(name: str) -> torch.device:
    """Return the device with a name; each process of a machine uses its own GPU."""
    device = torch.device(name)
    if device.type == "cuda" and device.index is None and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return device
