"""The networked mixture of experts, stage by stage: federated features, local experts, a federated gate."""

from airmoe.networked.baselines import train_central_moe, train_fedavg_network
from airmoe.networked.config import NetworkedConfig, load_config, parse_config
from airmoe.networked.run import ClientData, NetworkedMoe, split_among_clients, train_run

__all__ = [
    "ClientData",
    "NetworkedConfig",
    "NetworkedMoe",
    "load_config",
    "parse_config",
    "split_among_clients",
    "train_central_moe",
    "train_fedavg_network",
    "train_run",
]
