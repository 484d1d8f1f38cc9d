"""The links over which a finished run is evaluated: what every image meets, and what a transfer costs.

Shape suffixes: T images, Q queries (one image each), I queries asked at once, E experts.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from airmoe.dispatch import Carrier
from airmoe.errors import AirmoeError, InvalidInputError, did_you_mean
from airmoe.links import (
    Links,
    LinkSnr,
    Ofdma,
    RayleighFading,
    SnrProcess,
    link_sequence,
    make_process,
)
from airmoe.nn import IdealRadioCarrier, LocalCarrier, MoeLayer, RadioCarrier
from airmoe.radio import make_transmission
from airmoe.randomness import stream
from airmoe.runs.asking import BATCH, HELD_OUT_NOISE, HELD_OUT_SNR, Asked, ask_in_batches, ask_layer, joined
from airmoe.runs.load import Run
from airmoe.scheduling import Policy
from airmoe.seeding import torch_seeded

SLOT_IMAGES = 50
"""Images in a slot of a network: they meet the same links. A joint policy decides on a query about each."""

MOST_QUERIES = 20_000
"""Every client asks about every image, unless these would be more queries and more than the images."""

OWN, PERFECT = "run", "perfect"
IDEAL = "ideal"


@dataclass(frozen=True)
class EvaluatedLinks:
    """Links that images are asked over, from `links_of`.

    Attributes:
        name: "run", "perfect", or the text of an SNR process.
        transmission: "ideal", or a form of `airmoe.radio.make_transmission`; "perfect" links have none.
        process: draws the SNRs; None for the fading of the run's radio, and for perfect links.
        kind: "perfect": nothing is lost or paid; "by slot": the images of a slot meet the same links between
            all nodes; "by image": each image meets a link of its own to each expert of a server.
    """

    name: str
    transmission: str
    process: SnrProcess | None
    kind: Literal["perfect", "by slot", "by image"]


def links_of(run: Run, text: str = OWN, transmission: str | None = None) -> EvaluatedLinks:
    """Return the links that a text names, for a run.

    Args:
        run: the run.
        text: "run": the fading or the law of training that the settings name; "perfect": no radio; or a
            form of `airmoe.links.make_process`.
        transmission: "ideal", or a form of `airmoe.radio.make_transmission`; default that of the run.

    Raises:
        InvalidInputError: the links or the transmission are none of these.
        DataError: a trace cannot be read.
    """
    own = run.config["channel"] if run.has_server else run.config["links"]
    sent = own["transmission"] if transmission is None else transmission
    if sent != IDEAL:
        try:
            sent = make_transmission(sent).name
        except InvalidInputError as error:
            if error.name != "transmission":
                raise
            raise InvalidInputError("transmission", sent, _expected(error, sent, IDEAL)) from None
    if text == PERFECT:
        return EvaluatedLinks(PERFECT, "", None, "perfect")
    process = None
    if text != OWN or run.has_server:
        try:
            process = make_process(own["snr"] if text == OWN else text)
        except InvalidInputError as error:
            if error.name != "channel":
                raise
            raise InvalidInputError("links", text, _expected(error, text, OWN, PERFECT)) from None
    by_image = run.has_server and sent != IDEAL
    name = text if process is None or text == OWN else process.name
    return EvaluatedLinks(name, sent, process, "by image" if by_image else "by slot")


def _expected(error: InvalidInputError, text: str, *also: str) -> str:
    """Return what is expected of a text where a few names are known beside those of an error."""
    return f"{', '.join(also)}, {error.expected}{did_you_mean(text, also)}"


class Network:
    """Queries about a run's images over links that one seed has drawn; every policy meets the same ones.

    Args:
        run: the run.
        links: the links.
        payload_T: the payloads of all images.
        seed: of links, noise, and who asks about which image where not all ask about all.

    Attributes:
        image_Q: int64, the image of each query.
        source_Q: int64, the node that asks.
    """

    def __init__(self, run: Run, links: EvaluatedLinks, payload_T: Tensor, seed: int) -> None:
        self._links, self._payload_T, self._seed = links, payload_T, seed
        items, nodes = len(payload_T), run.manifest.nodes
        rounds = 1 if run.has_server else min(nodes, max(1, MOST_QUERIES // items))
        first_T = np.full(items, run.manifest.node)
        if not run.has_server:
            first_T = stream(seed, "evaluated sources").permutation(items) % nodes
        size = SLOT_IMAGES if links.kind == "by slot" else items
        slots = np.split(np.arange(items), range(size, items, size))
        self._queries = [
            [(image_I, (first_T[image_I] + round_) % nodes) for round_ in range(rounds)] for image_I in slots
        ]
        self.image_Q = np.concatenate([image_I for slot in self._queries for image_I, _ in slot])
        self.source_Q = np.concatenate([source_I for slot in self._queries for _, source_I in slot])
        radio = run.manifest.radio
        self._radio = Ofdma(
            subcarriers=radio.subcarriers, subcarrier_hz=radio.subcarrier_hz, power_w=radio.power_w
        )
        self._carriers: list[Carrier[Tensor, Tensor]] = [LocalCarrier()]
        if links.kind == "by image":
            assert links.process is not None
            random = stream(seed, HELD_OUT_SNR)
            self._snr = LinkSnr.drawn(links.process, items, len(run.model.layer.experts), random)
        if links.kind == "by slot":
            self._carriers = [self._carrier(each) for each in self._snapshots(run, len(slots))]

    def ask(self, layer: MoeLayer, policy: Policy) -> Asked:
        """Return what a layer answers to all queries.

        Raises:
            InvalidInputError: the policy needs links that these are not.
            NoExpertReachedError: a query got no answer.
        """
        with torch_seeded(self._seed, HELD_OUT_NOISE):
            if self._links.kind == "by image":
                carrier = RadioCarrier(make_transmission(self._links.transmission), radio=self._radio)
                batches = self._payload_T.split(BATCH)
                return ask_in_batches(layer, batches, policy=policy, carrier=carrier, snr=self._snr)
            return joined(
                [
                    ask_layer(layer, self._payload_T[image_I], source_I, policy=policy, carrier=carrier)
                    for slot, carrier in zip(self._queries, self._carriers, strict=True)
                    for image_I, source_I in slot
                ]
            )

    def try_out(self, layer: MoeLayer, policy: Policy) -> None:
        """Ask about the first images, so that what the policy needs is compiled; `ask` tells its errors."""
        image_I, source_I = (each_I[:SLOT_IMAGES] for each_I in self._queries[0][0])
        carrier, snr = self._carriers[0], None
        if self._links.kind == "by image":
            carrier = RadioCarrier(make_transmission(self._links.transmission), radio=self._radio)
            snr = self._snr.of_items(image_I)
        with suppress(AirmoeError), torch_seeded(self._seed, HELD_OUT_NOISE):
            ask_layer(layer, self._payload_T[image_I], source_I, policy=policy, carrier=carrier, snr=snr)

    def _snapshots(self, run: Run, slots: int) -> Iterator[Links]:
        nodes, process = run.manifest.nodes, self._links.process
        if process is not None:
            yield from link_sequence(process, nodes, self._radio, slots, stream(self._seed, HELD_OUT_SNR))
            return
        fading = RayleighFading(nodes, self._radio, run.manifest.radio.mean_snr_db, self._seed)
        yield from map(fading.at, range(slots))

    def _carrier(self, links: Links) -> Carrier[Tensor, Tensor]:
        if self._links.transmission == IDEAL:
            return IdealRadioCarrier(links)
        return RadioCarrier(make_transmission(self._links.transmission), links)
