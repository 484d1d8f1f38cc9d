"""What a reply to a request must be before it counts.

Shape suffixes: I items of one request, C classes.
"""

import numpy as np
from numpy.typing import NDArray

from airmoe.errors import FrameError
from airmoe.manifest import LayerSpec, OutputKind
from airmoe.mesh.frame import Frame, Kind, decode

ROUNDING = 1e-3
"""How far probabilities may sum from 1; float16 and bfloat16 get `NARROW_ROUNDING`."""

NARROW_ROUNDING = 0.05

LARGEST: dict[OutputKind, float] = {"logits": 1e3, "hidden states": 1e6}
"""The largest absolute value of an honest output. One of any size would outvote all others."""


def read_output(data: bytes, request: Frame, spec: LayerSpec) -> NDArray[np.float32]:
    """Return the outputs (I, ...) in a reply to a request.

    Raises:
        FrameError: the reply is damaged, answers another request, comes from other weights, or its values
            are none that an expert of this layer gives.
    """
    frame = decode(data)
    answered = (frame.kind, frame.request_id, frame.expert, frame.layer, frame.model_hash)
    if answered != (Kind.OUTPUTS, request.request_id, request.expert, request.layer, request.model_hash):
        raise FrameError("it answers another request")
    if frame.expert_hash != request.expert_hash:
        raise FrameError(f"its expert has hash {frame.expert_hash}; expected {request.expert_hash}")
    rows = len(request.arrays["payload"])
    output_I = frame.array("output", np.float32, (rows, *spec.output.shape))
    refuse_output(output_I, spec.output.kind, rounding_of(frame))
    return output_I


def rounding_of(frame: Frame) -> float:
    """Return how far rounding may move the values of a frame, relative to 1 or to the largest of them."""
    return ROUNDING if frame.wire_type == "float32" else NARROW_ROUNDING


def refuse_output(output_I: NDArray[np.float32], kind: OutputKind, rounding: float = ROUNDING) -> None:
    """Refuse values that are not what the manifest says an expert returns.

    Raises:
        FrameError: a value is not finite, no probability, or too large; or probabilities do not sum to 1.
    """
    if not output_I.size:
        return
    lowest = float(output_I.min())
    if kind != "probabilities":
        largest = max(float(output_I.max()), -lowest)
        if largest <= LARGEST[kind]:
            return
        _refuse_infinite(output_I)
        raise FrameError(f"its largest absolute value is {largest:g}; expected at most {LARGEST[kind]:g}")
    sum_I = output_I.sum(axis=-1)
    if lowest >= 0 and abs(sum_I.min() - 1) <= rounding and abs(sum_I.max() - 1) <= rounding:
        return
    _refuse_infinite(output_I)
    if lowest < 0:
        raise FrameError(f"a probability is {lowest:g}; expected at least 0")
    furthest = float(sum_I[np.abs(sum_I - 1).argmax()])
    raise FrameError(f"probabilities sum to {furthest:g}; expected 1 within {rounding:g}")


def _refuse_infinite(output_I: NDArray[np.float32]) -> None:
    if not np.isfinite(output_I).all():
        raise FrameError("it is not finite")
