"""The networked mixture of experts, stage by stage: federated features, local experts, a federated gate."""

from airmoe.networked.accounting import Device, Devices, device_costs, devices_table
from airmoe.networked.baseline_table import MethodScores, Setting, baselines_table, measure_method
from airmoe.networked.baselines import train_best_central_moe, train_central_moe, train_fedavg_network
from airmoe.networked.client_data import ClientData, split_among_clients
from airmoe.networked.config import NetworkedConfig, load_config, parse_config
from airmoe.networked.gate_training import train_gate
from airmoe.networked.held_out import HeldOut
from airmoe.networked.node import NetworkedNode, Nodes, NodesHere, Workspace
from airmoe.networked.outlook import outlook
from airmoe.networked.run import radio_of, train_run
from airmoe.networked.scores import Scores, scores_of
from airmoe.networked.stages import NetworkedMoe, SharedParts, train_shared_parts, train_stages

__all__ = [
    "ClientData",
    "Device",
    "Devices",
    "HeldOut",
    "MethodScores",
    "NetworkedConfig",
    "NetworkedMoe",
    "NetworkedNode",
    "Nodes",
    "NodesHere",
    "Scores",
    "Setting",
    "SharedParts",
    "Workspace",
    "baselines_table",
    "device_costs",
    "devices_table",
    "load_config",
    "measure_method",
    "outlook",
    "parse_config",
    "radio_of",
    "scores_of",
    "split_among_clients",
    "train_best_central_moe",
    "train_central_moe",
    "train_fedavg_network",
    "train_gate",
    "train_run",
    "train_shared_parts",
    "train_stages",
]
