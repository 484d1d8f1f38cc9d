"""Stage 1, FedCE."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from airmoe.data import ImageSet
from airmoe.errors import InvalidInputError
from airmoe.federated import Averaging, Loop, Message, federate
from airmoe.networked import ClientData, split_among_clients
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.feature_training import train_network
from airmoe.networked.features import initial_network
from airmoe.networked.fedce import FedCeClient
from airmoe.randomness import stream

Config = Callable[..., NetworkedConfig]


def network_of(config: NetworkedConfig) -> nn.Module:
    return initial_network(config, (1, 32, 32), lambda features: nn.Linear(features, 10))


def test_one_client_trains_as_plain_sgd_does_on_the_same_batches(
    few_digits: ImageSet, tiny_config: Config
) -> None:
    config = tiny_config(
        data={"clients": 1, "partition": "iid"}, features={"rounds": 2, "local_epochs": 2, "batch_size": 48}
    )
    data = split_among_clients(config, few_digits)
    (images,), (labels,) = data.images_TCHW, data.labels_T
    network = network_of(config)
    client = FedCeClient(network, images, labels, config.features, config.seed, 0)
    state, _ = federate(Averaging("features", 1), network.state_dict(), Loop([client]), 2)

    plain = network_of(config)
    for round_ in range(2):
        random = stream(config.seed, "fedce batches", round_, 0)
        optimiser = torch.optim.SGD(plain.parameters(), lr=0.02, momentum=0.9)  # begun anew each round
        for _ in range(2):
            order = random.permutation(len(labels))
            for start in range(0, len(order), 48):
                batch = order[start : start + 48]
                optimiser.zero_grad()
                functional.cross_entropy(plain(images[batch]), labels[batch]).backward()
                optimiser.step()
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(state[name], tensor, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("clients", [2, 4])
def test_bytes_are_those_of_the_closed_form(few_digits: ImageSet, tiny_config: Config, clients: int) -> None:
    config = tiny_config(data={"clients": clients}, features={"rounds": 2})
    data = split_among_clients(config, few_digits)
    rows = train_network("features", config, network_of(config), data)
    extractor = 6 * (25 * 1 + 1) + 2 * 6 + 16 * (25 * 6 + 1) + 2 * 16
    head = 400 * 10 + 10
    assert sum(row["bytes"] for row in rows) == clients * 2 * 2 * (extractor + head) * 4


def test_weights_depend_on_the_seed_and_on_nothing_else(few_digits: ImageSet, tiny_config: Config) -> None:
    def trained(seed: int, disturbance: int) -> torch.Tensor:
        torch.manual_seed(disturbance)
        config = tiny_config(seed=seed, features={"rounds": 1})
        network = network_of(config)
        train_network("features", config, network, split_among_clients(config, few_digits))
        return network.head.weight.detach()  # type: ignore[union-attr, return-value]

    first = trained(0, 1)
    assert torch.equal(first, trained(0, 2))
    assert not torch.equal(first, trained(1, 1))


def test_the_loss_falls_and_held_out_images_are_scored(few_digits: ImageSet, tiny_config: Config) -> None:
    config = tiny_config(features={"rounds": 6})
    data = split_among_clients(config, few_digits)
    rows = train_network("features", config, network_of(config), data)
    assert float(rows[-1]["loss"]) < 0.8 * float(rows[0]["loss"])
    assert [row["round"] for row in rows if "macro_f1" in row] == [5, 6]


def test_every_client_gets_the_images_of_its_part_as_pixels_from_0_to_1(
    few_digits: ImageSet, tiny_config: Config
) -> None:
    data: ClientData = split_among_clients(tiny_config(data={"clients": 4}), few_digits)
    assert sum(len(labels) for labels in data.labels_T) == len(few_digits.train_labels)
    assert sorted(sum(data.holds, [])) == sorted(list(range(10)) * 2)  # noqa: RUF017 (a ring: two holders)
    images = torch.cat(data.images_TCHW)
    assert images.dtype == torch.float32
    assert float(images.min()) == 0.0
    assert 0.9 < float(images.max()) <= 1.0


def test_weights_of_another_network_are_refused_and_change_nothing(
    few_digits: ImageSet, tiny_config: Config
) -> None:
    config = tiny_config(data={"clients": 1, "partition": "iid"})
    data = split_among_clients(config, few_digits)
    network = network_of(config)
    client = FedCeClient(network, data.images_TCHW[0], data.labels_T[0], config.features, config.seed, 0)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    sent = {name: torch.zeros_like(tensor) for name, tensor in before.items()} | {"head.bias": torch.zeros(1)}
    with pytest.raises(InvalidInputError, match=r"weights from the server is 'head.bias is .*\(10,\)"):
        client.client_step("train", {}, Message(sent, {"round": 0}))
    assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in before.items())
