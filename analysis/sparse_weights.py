"""Rewrite weights of the first models for the network that all have now; the output is the same.

    python analysis/sparse_weights.py models/relax-qm9-1/model.safetensors …

The first models of QM9 had a network of their own, in which each atom sent all of its
channels to all others. The network of all models does the same where `sent`, `sent_tensors` and
`products` are the channels and `fine_tensors` holds. The files are replaced.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffrelax.training.state import load_tensors, save_tensors


def main() -> None:
    """Rewrite the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    for path in parser.parse_args().files:
        tensors, metadata = load_tensors(path)
        if not any(".messages." in name for name in tensors):
            parser.error(f"{path} is not of the older network")
        save_tensors(rewritten(tensors), path, with_shape(metadata))


def with_shape(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return metadata whose configuration says the shape of today's network."""
    config = metadata["config"]
    channels = config["network"].get("channels", 64)
    shape = {name: channels for name in ("products", "sent", "sent_tensors")}
    network = config["network"] | shape | {"fine_tensors": True}
    return metadata | {"config": config | {"network": network}}


def rewritten(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the same weights by their names of today; what is new has no effect."""
    new = {}
    for name, weights in tensors.items():
        channels = weights.shape[-1]
        if ".messages." in name or ".tensor_messages." in name:
            name = name.replace("tensor_messages", "receive_tensors").replace("messages", "receive")
            # a row is (radial function, channel), and becomes the channel of the receiver
            weights = weights.unflatten(0, (-1, channels)).transpose(0, 1).flatten(1)
        elif name == "network.condition.0.weight":
            weights = torch.cat([weights, weights.new_zeros(len(weights), len(weights))], dim=1)
        elif name.endswith(".self_interaction.0.weight"):
            layer = name.removesuffix("self_interaction.0.weight")
            for part in ("send", "send_tensors.0", "send_tensors.1"):
                new[f"{layer}{part}.weight"] = torch.eye(channels, dtype=weights.dtype)
        elif name == "network.embedding.weight":
            for part, rows in (
                ("level_embedding", 1),
                ("charge_embedding", 1),
                ("theory", channels),
            ):
                new[f"network.{part}.weight"] = weights.new_zeros(rows, channels)
        new[name] = weights
    return new


if __name__ == "__main__":
    main()
