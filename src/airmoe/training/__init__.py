"""Training: the three federated stages, baselines, checkpoints and export."""

from airmoe.training.central import train_central_moe, train_fedavg_network
from airmoe.training.config import RunConfig, load_config, parse_config
from airmoe.training.federated import ClientData, NetworkedMoe, split_among_clients, train_run
from airmoe.training.gated_run import GatedMoe, train_gated_run
from airmoe.training.two_stage_config import TwoStageConfig

__all__ = [
    "ClientData",
    "GatedMoe",
    "NetworkedMoe",
    "RunConfig",
    "TwoStageConfig",
    "load_config",
    "parse_config",
    "split_among_clients",
    "train_central_moe",
    "train_fedavg_network",
    "train_gated_run",
    "train_run",
]
