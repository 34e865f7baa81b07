"""Shape of the network, as it is written in a model's configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator


class NetworkConfig(BaseModel):
    """Shape of an :class:`~diffrelax.network.network.EquivariantNetwork`.

    Attributes
    ----------
    elements : tuple of int
        Atomic numbers that the network knows.
    channels : int
        Features of each degree l = 0, 1, 2 on an atom.
    radial : int
        Radial functions of a pair in the messages of scalars.
    coarse : int
        Radial functions of a pair in the messages of vectors and tensors.
    layers : int
        Rounds of message passing.
    cutoff : float, Å
        Distance at which the radial functions vanish.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    elements: tuple[Annotated[int, Field(ge=1, le=96)], ...] = (1, 6, 7, 8, 9)
    channels: int = Field(default=64, gt=0)
    radial: int = Field(default=16, gt=1)
    coarse: int = Field(default=4, gt=1)
    layers: int = Field(default=4, gt=0)
    cutoff: float = Field(default=5.0, gt=1)

    @field_validator("elements")
    @classmethod
    def _check_elements(cls, elements: tuple[int, ...]) -> tuple[int, ...]:
        if not elements or len(set(elements)) < len(elements):
            raise ValueError("name at least one element, and each of them once")
        return elements
