"""What tests read of the source tree that packages do not carry."""

from pathlib import Path

MODELS = Path(__file__).parents[1] / "models"
OLDER = str(MODELS / "relax-qm9-1" / "model.safetensors")
