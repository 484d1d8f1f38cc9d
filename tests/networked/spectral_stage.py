"""Stage 1 by spectral contrast in a tiny run, whose parts tests look at."""

from collections.abc import Callable, Iterator, Mapping

from airmoe.data import ImageSet
from airmoe.federated import (
    Averaging,
    Exchange,
    Loop,
    Message,
    Participation,
    State,
    federate,
)
from airmoe.networked import ClientData, split_among_clients
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.correlated_averaging import CorrelatedAveraging
from airmoe.networked.features import feature_network
from airmoe.networked.fedce import Network
from airmoe.networked.fedsc import EXCHANGES, SpectralClient
from airmoe.runs.checkpoint import Checkpoint

Config = Callable[..., NetworkedConfig]
WIDTH = 6
"""Of the tiny run's projections."""


class Recording(Loop):
    """A loop that keeps what every client was told and replied, by round, exchange and client."""

    def __init__(self, clients: list[SpectralClient]) -> None:
        super().__init__(clients)
        self.told: dict[tuple[int, str, int], Message] = {}
        self.replied: dict[tuple[int, str, int], Message] = {}

    def carry(self, exchange: Exchange, messages: Mapping[int, Message]) -> Iterator[tuple[int, Message]]:
        for client, message in messages.items():
            self.told[exchange.round_, exchange.name, client] = message
        for client, reply in super().carry(exchange, messages):
            self.replied[exchange.round_, exchange.name, client] = reply
            yield client, reply


class Stage1:
    """Stage 1 of a tiny run, whose parts tests look at."""

    def __init__(self, config: NetworkedConfig, images: ImageSet) -> None:
        self.config, self.settings = config, config.features
        self.data: ClientData = split_among_clients(config, images)
        self.count = len(self.data.labels_T)
        image_shape = self.data.test_images_TCHW.shape[1:]
        self.network: Network = feature_network(config, image_shape, classes=10)
        self.clients = [
            SpectralClient(self.network, images, self.settings, self.count, config.seed, client)
            for client, images in enumerate(self.data.images_TCHW)
        ]
        self.engine = Recording(self.clients)
        participation = Participation(self.settings.participation, config.seed)
        if self.settings.method == "fedsc":
            averaging = Averaging("features", self.count, EXCHANGES, participation=participation)
            self.stage: CorrelatedAveraging | Averaging = CorrelatedAveraging(averaging, WIDTH)
        else:
            self.stage = Averaging("features", self.count, participation=participation)

    def run(
        self, rounds: int = 0, checkpoint: Checkpoint | None = None
    ) -> tuple[State, list[dict[str, object]]]:
        state, rows = federate(
            self.stage,
            self.network.state_dict(),
            self.engine,
            rounds or self.settings.rounds,
            checkpoint=checkpoint,
        )
        return state, rows  # type: ignore[return-value]


def stages(tiny_config: Config, images: ImageSet) -> Callable[..., Stage1]:
    """Return what builds stage 1 of three clients, with changes."""

    def build(
        method: str = "fedsc", clients: int = 3, seed: int = 0, spectral: object = None, **features: object
    ) -> Stage1:
        narrow = {"projector_hidden": 8, "projector_out": WIDTH, "augmentation_passes": 2}
        changed = {
            "rounds": 2,
            "batch_size": 64,
            **features,
            "method": method,
            "spectral": narrow | (spectral or {}),
        }  # type: ignore[operator]
        data = {"clients": clients, "partition": "ring" if clients > 1 else "iid"}
        return Stage1(tiny_config(seed=seed, data=data, features=changed), images)

    return build
