"""Opening an ONNX model on the processor, with threads that are counted."""

from pathlib import Path

import onnxruntime


def open_session(model: Path | bytes, *, threads: int) -> onnxruntime.InferenceSession:
    """Opens a model from a file or from memory.

    Args:
        model: its path, or the serialised model.
        threads: said outright, since the runtime otherwise takes every core of the host.
    """
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    # Threads that spin while they wait are a little faster alone and take the cores from the rest of the host.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model if isinstance(model, bytes) else str(model), settings, providers=["CPUExecutionProvider"])
