"""Generation of new molecules: exploration, then relaxation."""

from diffrelax.generation.files import (
    count_trajectories,
    read_trajectories,
    write_trajectories,
)
from diffrelax.generation.phases import generate, generate_each
from diffrelax.generation.trajectory import Trajectory
from diffrelax.generation.verdict import Generated, judge

__all__ = [
    "Generated",
    "Trajectory",
    "count_trajectories",
    "generate",
    "generate_each",
    "judge",
    "read_trajectories",
    "write_trajectories",
]
