"""The networked mixture of experts, stage by stage: federated features, local experts, a federated gate."""

from airmoe.networked.accounting import Device, Devices, device_costs, devices_table
from airmoe.networked.baselines import train_central_moe, train_fedavg_network
from airmoe.networked.client_data import ClientData, split_among_clients
from airmoe.networked.config import NetworkedConfig, load_config, parse_config
from airmoe.networked.gate_training import train_gate
from airmoe.networked.held_out import HeldOut
from airmoe.networked.node import NetworkedNode, Nodes, NodesHere, Workspace
from airmoe.networked.outlook import outlook
from airmoe.networked.run import radio_of, train_run
from airmoe.networked.stages import NetworkedMoe, SharedParts, train_shared_parts, train_stages

__all__ = [
    "ClientData",
    "Device",
    "Devices",
    "HeldOut",
    "NetworkedConfig",
    "NetworkedMoe",
    "NetworkedNode",
    "Nodes",
    "NodesHere",
    "SharedParts",
    "Workspace",
    "device_costs",
    "devices_table",
    "load_config",
    "outlook",
    "parse_config",
    "radio_of",
    "split_among_clients",
    "train_central_moe",
    "train_fedavg_network",
    "train_gate",
    "train_run",
    "train_shared_parts",
    "train_stages",
]
