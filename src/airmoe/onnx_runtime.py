"""ONNX Runtime, loaded here and nowhere else: without telemetry, on one thread.

Importing airmoe sets ``ORT_DISABLE_TELEMETRY``, which counts when ONNX Runtime is loaded. Where a program
loaded it before airmoe, its events are turned off here; what it wrote and sent until then is done.
"""

import onnxruntime

from airmoe.files import AnyPath

onnxruntime.disable_telemetry_events()


def onnx_session(network: AnyPath | bytes) -> onnxruntime.InferenceSession:
    """Return a session that runs a network, an ONNX file or its bytes, on one thread of the CPU.

    Raises:
        Exception: it is no readable network; ONNX Runtime's own exceptions share no base class.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
