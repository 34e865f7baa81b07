"""Shape of a network, as given in the configuration of a model."""

from __future__ import annotations

import operator
from collections.abc import Hashable
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from diffrelax.errors import InputError

T = TypeVar("T", bound=Hashable)


def _check_distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    if len(set(values)) < len(values):
        raise InputError("names must be unique")
    return values


Distinct = Annotated[tuple[T, ...], AfterValidator(_check_distinct)]
Elements = Annotated[Distinct[Annotated[int, Field(ge=1, le=96)]], Field(min_length=1)]


class NetworkConfig(BaseModel):
    """Shape of an :class:`~diffrelax.network.network.EquivariantNetwork`.

    Attributes
    ----------
    levels : tuple of str
        Levels of theory that the network distinguishes; empty if all minima are at the same level.
    charges : tuple of int
        Total charges that the network knows.
    starts : tuple of str
        Cheap levels of theory that the network distinguishes as starts of the bridge. Starts of any
        other level are treated like those of the first.
    elements : tuple of int
        Atomic numbers that the network knows.
    channels : int
        Number of channels per atom for each degree l = 0, 1, 2.
    products : int
        Number of these channels (at most all) that enter the products on each atom.
    sent, sent_tensors : int
        Number of scalars, and of features with l = 1 and l = 2, in a message to a neighbour.
    radial, coarse : int
        Number of radial functions of a pair: fine ones for l = 0 and 1, coarse ones for the rest
        (l = 2, and the messages of vectors and tensors).
    fine_tensors : bool
        Whether l = 2 also uses the fine functions, as in the QM9 models.
    layers : int
        Number of message-passing layers.
    cutoff : float, Å
        Largest distance of neighbours.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    levels: Distinct[str] = ()
    charges: Distinct[int] = Field(default=(0,), min_length=1)
    starts: Distinct[str] = Field(default=("mmff94",), min_length=1)
    elements: Elements = (1, 6, 7, 8, 9)
    channels: int = Field(le=4096, default=64, gt=0)
    products: int = Field(le=4096, default=32, gt=0)
    sent: int = Field(le=4096, default=32, gt=0)
    sent_tensors: int = Field(le=4096, default=16, gt=0)
    radial: int = Field(le=1024, default=16, gt=1)
    coarse: int = Field(le=1024, default=8, gt=1)
    fine_tensors: bool = Field(default=False, exclude_if=operator.not_)
    layers: int = Field(le=64, default=4, gt=0)
    cutoff: float = Field(default=5.0, gt=1, allow_inf_nan=False)
