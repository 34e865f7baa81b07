"""Features of degree l = 0, 1, 2 as functions on the sphere, where products are pointwise."""

from __future__ import annotations

import math

import torch
from scipy.integrate import lebedev_rule
from torch import Tensor
from torch.nn.functional import normalize

DEGREES = (1, 3, 5)  # components of l = 0, 1, 2
QUADRATURE = 7  # exact for the product of three harmonics of degree 2


def spherical_harmonics(vectors: Tensor) -> Tensor:
    """Evaluate the real spherical harmonics of ``0e + 1o + 2e`` in the direction of vectors.

    They are bitwise identical to those of e3nn, in its order and with its normalization
    ``component``: the squares of each degree l sum to 2l + 1. e3nn is avoided as slow to import.

    Parameters
    ----------
    vectors : (..., 3) tensor
        Vectors of any length.

    Returns
    -------
    (..., 9) tensor
    """
    x, y, z = normalize(vectors, dim=-1).unbind(-1)
    across = x.pow(2) + z.pow(2)
    return torch.stack(
        [
            torch.ones_like(x),
            *(math.sqrt(3) * component for component in (x, y, z)),
            math.sqrt(15) * x * z,
            math.sqrt(15) * x * y,
            math.sqrt(5) * (y.pow(2) - 0.5 * across),
            math.sqrt(15) * y * z,
            0.5 * math.sqrt(15) * (z.pow(2) - x.pow(2)),
        ],
        dim=-1,
    )


def sphere_samples() -> tuple[Tensor, Tensor]:
    """Return the matrices from features to function values on the sphere, and back.

    Squaring the values in between gives the symmetric tensor product of the features with
    themselves. Each path is weighted by its Gaunt coefficient: the Clebsch-Gordan coefficient times
    a factor that depends on (l1, l2, l3) (Luo et al. 2024). A Lebedev quadrature makes the
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
