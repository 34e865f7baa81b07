"""Settings of commands that only a settings file can set, beside those of DFT."""

from __future__ import annotations

from pydantic import Field

from diffrelax.entries import Entries


class ModelSettings(Entries):
    """Settings of the relaxation by the model.

    Parameters
    ----------
    noise_level : float, optional, Å
        Standard deviation of noise on each coordinate of the start. Default: estimated by the
        model.
    device : str
        ``cpu``, ``cuda``, ``cuda:1``, …
    seed : int
        Random seed for the embedding of SMILES.
    """

    noise_level: float | None = None
    device: str = "cpu"
    seed: int = 42


class SpeedupSettings(Entries):
    """Settings of a comparison.

    Parameters
    ----------
    seed : int
        Random seed for the embedding of SMILES.
    watts : float
        Assumed power of a busy processor core, to estimate kWh.
    """

    seed: int = 42
    watts: float = Field(default=12.0, ge=0)


class ConformersSettings(Entries):
    """How conformers are searched for.

    Parameters
    ----------
    surface : str
        Cheap level of the search. Default: the level itself; for DFT, AIMNet2 where it covers the
        molecule, else GFN2-xTB.
    device : str
        ``cpu``, ``cuda``, ``cuda:1``, …
    seed : int
        Random seed for the embeddings and the search.
    threads : int, optional
        Processor threads.
    """

    surface: str = "auto"
    device: str = "cpu"
    seed: int = 42
    threads: int | None = Field(default=None, ge=1)


class SamplingSettings(Entries):
    """How samples are drawn.

    Parameters
    ----------
    chains : int
        Markov chains in one batch.
    seed : int
        Random seed for the embeddings and the chains.
    threads : int, optional
        Processor threads.
    """

    chains: int = 10
    seed: int = 42
    threads: int | None = Field(default=None, ge=1)
