"""What every training writes and reads: settings, checkpoints, run folders, exported networks."""

from airmoe.runs.checkpoint import Checkpoint
from airmoe.runs.export import export_onnx, export_run
from airmoe.runs.settings import RunConfig, load_config, parse_config

__all__ = ["Checkpoint", "RunConfig", "export_onnx", "export_run", "load_config", "parse_config"]
