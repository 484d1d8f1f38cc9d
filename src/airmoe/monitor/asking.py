"""A mesh asked about an image that somebody dropped on the page."""

from collections.abc import Callable
from typing import Any

from airmoe.data.image_file import image_of_bytes
from airmoe.manifest import Manifest
from airmoe.mesh.answer_record import record_of
from airmoe.mesh.client import MeshClient
from airmoe.scheduling.parsing import make_policy

SHOWN = 3
"""How many of the most probable classes are told."""

DEADLINE_S = 5.0
"""Seconds for the answer."""


def asks_images(manifest: Manifest) -> bool:
    """Return whether a client can ask about images, in the one way that a `MeshClient` has."""
    return manifest.asks is not None and len(manifest.asks.gates) == 1


def ask_by(client: MeshClient) -> Callable[[bytes, str], dict[str, Any]]:
    """Return what asks a mesh: from an image file's bytes and a policy's text to what is said of the image.

    Args:
        client: asks; its own policy decides where the text is empty.
    """
    asks = client.manifest.asks
    assert asks is not None
    spec = asks.input

    def ask(data: bytes, policy: str) -> dict[str, Any]:
        pixels_CHW = image_of_bytes(data, spec.channels, spec.height, spec.width)
        decides = make_policy(policy) if policy else client.policy
        client.prepare(decides)  # compiled before the time of the query begins
        answer = client.predict(pixels_CHW[None], policy=decides, deadline_s=DEADLINE_S)
        told = record_of(client, answer)
        # JavaScript would put the names that are numbers first.
        return told | {"probabilities": list(told["probabilities"].items())[:SHOWN]}

    return ask
