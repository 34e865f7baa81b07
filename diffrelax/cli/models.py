"""``diffrelax models``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from diffrelax.models.release import Model


def models(
    check: Annotated[
        bool, typer.Option("--check", help="Check each model with its reference molecules")
    ] = False,
) -> None:
    """List the released models, and what they cover."""
    from diffrelax.models.release import load_model, releases

    damaged = False
    for name, folder in releases().items():
        try:
            model = load_model(name)
            found = model.check_references() if check and model.references else None
        except ValueError as error:
            print(f"{name}  {error}")
            damaged = True
            continue
        n_parameters = sum(p.numel() for p in model.denoiser.parameters())
        print(f"{name}  {model.config.level}  {n_parameters / 1e6:.2f} M parameters, "
              f"{model.step} steps, sha256 {model.sha256[:12]}…  {folder}")  # fmt: skip
        print("\n".join(f"  {line}" for line in coverage(model)))
        if found is not None:
            n = len(model.references)
            print(f"  checked: {n} reference molecules agree within {found:.1g} Å")
        elif check:
            print("  not checked: it has no reference molecules")
    print(f"default: {load_model().name}")
    if check and damaged:
        raise typer.Exit(1)


def coverage(model: Model) -> list[str]:
    """Describe what a model covers, in lines."""
    from diffrelax.models.domain import atom_limit, named_charges, named_elements

    config = model.config
    if config.generation:
        return [f"makes molecules of {named_elements(config.elements)}"]
    larger = any(learned.most_heavy > config.most_heavy for learned in config.learned.values())
    lines = [
        f"{named_elements(config.elements)}; charges {named_charges(config.charges)}; trained on "
        f"at most {config.most_heavy} heavy atoms{' but for a few' if larger else ''}, used up to "
        f"{atom_limit(model)} atoms"
    ]
    for level, learned in config.learned.items():
        lines.append(
            f"{level}: {learned.minima} minima of {named_elements(learned.elements)}, charges "
            f"{named_charges(learned.charges)}, at most {learned.most_heavy} heavy atoms, "
            + ("errors bounded" if level in config.calibrations else "no bound on errors")
        )
    return lines
