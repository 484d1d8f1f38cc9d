"""Exported networks, run by ONNX Runtime on one thread."""

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from airmoe.errors import RunFolderError


class OnnxNetwork:
    """One exported network, array to array, first axis free.

    Args:
        path: the ONNX file, checked by the caller.
        item_shape: the shape of one input item, as the manifest says.
        width: the width of one output item, as the manifest says.

    Raises:
        RunFolderError: ONNX Runtime cannot read it, or its inputs or outputs have another shape.
    """

    def __init__(self, path: Path, item_shape: tuple[int, ...], width: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(
                path, sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's own exceptions share no base class
            raise RunFolderError(f"{path} is not a readable ONNX network: {error}") from None
        (takes,), (gives,) = self._session.get_inputs(), self._session.get_outputs()
        for what, actual, expected in (
            ("takes", tuple(takes.shape[1:]), item_shape),
            ("gives", tuple(gives.shape[1:]), (width,)),
        ):
            if actual != expected:
                raise RunFolderError(f"{path} {what} items of shape {actual}; the manifest says {expected}")

    def __call__(self, array_T: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the outputs for inputs whose first axis is T."""
        (output,) = self._session.run(None, {"input": array_T})
        return output  # type: ignore[no-any-return]
