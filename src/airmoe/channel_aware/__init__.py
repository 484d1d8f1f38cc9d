"""A server's channel-aware mixture of experts, trained in two stages."""

from airmoe.channel_aware.config import TwoStageConfig
from airmoe.channel_aware.run import GatedMoe, train_gated_run

__all__ = ["GatedMoe", "TwoStageConfig", "train_gated_run"]
