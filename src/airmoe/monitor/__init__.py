"""Watching what runs: metrics as TensorBoard events. No PyTorch."""

from airmoe.monitor.events import EVENTS, forget_events, write_events

__all__ = ["EVENTS", "forget_events", "write_events"]
