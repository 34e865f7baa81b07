"""Features of degree l = 0, 1, 2 as functions on the sphere, where products are easy."""

from __future__ import annotations

import torch
from e3nn import o3
from scipy.integrate import lebedev_rule
from torch import Tensor

DEGREES = (1, 3, 5)  # components of l = 0, 1, 2
QUADRATURE = 7  # exact for the product of three harmonics of degree 2


def spherical_harmonics(vectors: Tensor) -> Tensor:
    """Evaluate the real spherical harmonics of ``0e + 1o + 2e``, (..., 9), along (..., 3)."""
    return o3.spherical_harmonics([0, 1, 2], vectors, normalize=True, normalization="component")


def sphere_samples() -> tuple[Tensor, Tensor]:
    """Return the maps from features to function values on the sphere, and back.

    Squaring the values in between is the symmetric tensor product of the features with
    themselves, each path weighted by its Gaunt coefficient, which is the Clebsch-Gordan
    coefficient times a factor of (l1, l2, l3) (Luo et al. 2024). A Lebedev rule makes the
    projection exact.

    Returns
    -------
    values : (n_points, 9) tensor
        Real spherical harmonics of ``0e + 1o + 2e`` at the points.
    projection : (9, n_points) tensor
        Their transpose times the weights of the points.
    """
    points, weights = lebedev_rule(QUADRATURE)
    values = spherical_harmonics(torch.from_numpy(points.T))
    projection = values.T * torch.from_numpy(weights / weights.sum())
    return values.float(), projection.float()
