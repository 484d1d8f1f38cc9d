"""What every training writes and reads: settings, checkpoints, run folders, exported networks."""

from airmoe.runs.checkpoint import Checkpoint
from airmoe.runs.export import export_onnx, export_run
from airmoe.runs.settings import dump_config, parse_section

__all__ = ["Checkpoint", "dump_config", "export_onnx", "export_run", "parse_section"]
