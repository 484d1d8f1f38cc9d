"""A server's channel-aware mixture of experts, trained in two stages."""

from airmoe.channel_aware.config import ChannelAwareConfig
from airmoe.channel_aware.run import ChannelAwareMoe, train_channel_aware

__all__ = ["ChannelAwareConfig", "ChannelAwareMoe", "train_channel_aware"]
