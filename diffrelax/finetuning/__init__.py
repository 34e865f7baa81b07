"""Fine-tuning of a released model on minima at the user's own level of theory."""

from diffrelax.finetuning.minima import Minima, load_minima
from diffrelax.finetuning.start import (
    ENVIRONMENTS,
    begin_finetuning,
    covered,
    prepare_base,
    write_known,
)

__all__ = [
    "ENVIRONMENTS",
    "Minima",
    "begin_finetuning",
    "covered",
    "load_minima",
    "prepare_base",
    "write_known",
]
