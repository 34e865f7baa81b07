"""How far levels of theory are from one another."""

from __future__ import annotations


def plain_name(level: str) -> str:
    """Return the name of a level of theory without case and spaces, and with w for ω."""
    return "".join(level.split()).casefold().replace("ω", "w")
