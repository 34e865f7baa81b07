"""Provenance of results: code, model and machine."""

from __future__ import annotations

import socket
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import Field

from diffrelax.results.molecules import Document

if TYPE_CHECKING:
    from diffrelax.models.release import Model


class Provenance(Document):
    """Where, when and with what a result was made."""

    version: str = Field(description="of diffrelax")
    git_commit: str = Field(default="", description="of its source tree, if it runs from one")
    uncommitted: bool | None = Field(
        default=None, description="whether its source was changed since; none if not known"
    )
    model: str = Field(default="", description="name and release, where a model took part")
    model_sha256: str = Field(default="", description="of the file of weights")
    seed: int | None = Field(default=None, description="of the embedding, where one took part")
    host: str
    hardware: str = Field(default="", description="processor and threads, where time is compared")
    finished: datetime = Field(description="UTC")

    @classmethod
    def here(
        cls, *, model: Model | None = None, seed: int | None = None, hardware: str = ""
    ) -> Self:
        """Return the provenance of a result made now."""
        commit, uncommitted = _source()
        return cls(
            version=version("diffrelax"),
            git_commit=commit,
            uncommitted=uncommitted,
            model=model.name if model else "",
            model_sha256=model.sha256 if model else "",
            seed=seed,
            host=socket.gethostname(),
            hardware=hardware,
            finished=datetime.now(UTC),
        )


@cache
def _source() -> tuple[str, bool | None]:
    """Return the commit of the source tree, and whether it has uncommitted changes."""
    package = Path(__file__).parents[1]
    if not (package.parent / ".git").exists():
        return "", None
    try:
        return _git(package, "rev-parse", "HEAD"), bool(_git(package, "status", "--short", "."))
    except (OSError, subprocess.CalledProcessError):
        return "", None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
