"""What tests read of the source tree that packages do not carry."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
MODELS = ROOT / "models"
OLDER = str(MODELS / "relax-qm9-1" / "checkpoints" / "step-65536.safetensors")
