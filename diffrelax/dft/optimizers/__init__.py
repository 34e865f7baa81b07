"""Optimizers by name: ASE optimizers that start from a Hessian of a cheap level.

Other packages add optimizers as entry points of the group ``diffrelax.optimizers``: a name and a
subclass of `diffrelax.dft.optimizers.base.HessianOptimizer`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffrelax.errors import InputError

if TYPE_CHECKING:
    from diffrelax.dft.optimizers.base import HessianOptimizer

GROUP = "diffrelax.optimizers"
OPTIMIZERS = {
    "tric": "diffrelax.dft.optimizers.internal:TRIC",
    "geometric": "diffrelax.dft.optimizers.internal:GeomeTRIC",
    "bfgs": "diffrelax.dft.optimizers.trust_radius:TrustRadiusBFGS",
    "sella": "diffrelax.dft.optimizers.sella:SellaMinimiser",
}


def optimizer_names() -> list[str]:
    """Return the names of all optimizers, including those of other packages."""
    from importlib.metadata import entry_points  # slow to import

    return list(dict.fromkeys((*OPTIMIZERS, *entry_points(group=GROUP).names)))


def find_optimizer(name: str) -> type[HessianOptimizer]:
    """Return the class of an optimizer.

    Raises
    ------
    ValueError
        If it is unknown, or its package is not installed.
    """
    from importlib.metadata import EntryPoint, entry_points  # slow to import

    if name in OPTIMIZERS:
        point = EntryPoint(name, OPTIMIZERS[name], GROUP)
    elif found := entry_points(group=GROUP, name=name):
        point = next(iter(found))
    else:
        raise InputError(
            f"unknown optimizer {name!r}: choose one of {', '.join(optimizer_names())}"
        )
    optimizer: type[HessianOptimizer] = point.load()
    return optimizer
