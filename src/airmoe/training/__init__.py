"""Training: the three federated stages, baselines, checkpoints and export."""

from airmoe.training.central import train_central_moe, train_fedavg_network
from airmoe.training.config import RunConfig, load_config, parse_config
from airmoe.training.federated import ClientData, NetworkedMoe, split_among_clients, train_run

__all__ = [
    "ClientData",
    "NetworkedMoe",
    "RunConfig",
    "load_config",
    "parse_config",
    "split_among_clients",
    "train_central_moe",
    "train_fedavg_network",
    "train_run",
]
