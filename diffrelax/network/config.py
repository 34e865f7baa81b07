"""Shape of a network, as it is written in a model's configuration."""

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
        Levels of theory that the network tells apart; none where all minima are of one.
    charges : tuple of int
        Total charges that it knows.
    starts : tuple of str
        Cheap levels of theory whose minima it tells apart as starts of the bridge; the first stands
        for any other.
    elements : tuple of int
        Atomic numbers that it knows.
    channels : int
        Features of each degree l = 0, 1, 2 on an atom.
    products : int
        Channels of these, at most all, that are multiplied on an atom.
    sent, sent_tensors : int
        Scalars, and features of l = 1 and of l = 2, that an atom sends to its neighbours.
    radial, coarse : int
        Radial functions of a pair: fine ones for its length and direction, coarse ones for the
        rest (l = 2, and the messages of vectors and tensors).
    fine_tensors : bool
        Whether l = 2 has the fine ones too, as in models of QM9.
    layers : int
        Rounds of message passing.
    cutoff : float, Å
        Distance up to which atoms are neighbours.
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
