"""``diffrelax models``."""

from __future__ import annotations


def models() -> None:
    """List the released models."""
    from diffrelax.models.release import load_model, releases

    for name, folder in releases().items():
        try:
            model = load_model(name)
        except ValueError as error:
            print(f"{name}  {error}")
            continue
        n_parameters = sum(p.numel() for p in model.denoiser.parameters())
        print(f"{name}  {model.config.level}  {n_parameters / 1e6:.2f} M parameters, "
              f"{model.step} steps, sha256 {model.sha256[:12]}…  {folder}")  # fmt: skip
