"""The answer of a mesh to a batch of images.

Shape suffixes: T items, E experts, C classes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from airmoe.dispatch import Dispatched
from airmoe.errors import InvalidInputError
from airmoe.manifest import MeshTransmission, OutputKind
from airmoe.showing import OneLine


@dataclass(frozen=True, eq=False, repr=False)
class Answer(OneLine):
    """What the mesh answered to a batch of images.

    Attributes:
        output_T: float32, the mixed outputs of the experts; ``kind`` says what they are.
        kind: "probabilities", "logits" or "hidden states".
        scores_TE: float64, the gate's scores.
        weights_TE: float64, the weight of each output in the answer; a row sums to 1.
        dispatched: which experts were asked, which answered, joules, what was routed again or degraded.
        sent_bytes: bytes of all requests, as framed.
        received_bytes: bytes of all replies, as framed.
        elapsed_s: seconds from images to answer.
        snr_db_TE: float64, dB, the SNR of each item's link to each expert as gate and policy saw it; 30 dB to
            the client's own.
        transmission: "ideal" or "analog": what the links did to payloads, and how they were priced. A joint
            policy decides by ideal prices all the same.
        scheduler: the node whose scheduler decided; None where the client itself did.
        verified_TE: bool, the outputs that two nodes gave alike; None where the client does not verify.
    """

    output_T: NDArray[np.float32]
    kind: OutputKind
    scores_TE: NDArray[np.float64]
    weights_TE: NDArray[np.float64]
    dispatched: Dispatched[NDArray[np.float32]]
    sent_bytes: int
    received_bytes: int
    elapsed_s: float
    snr_db_TE: NDArray[np.float64]
    transmission: MeshTransmission
    scheduler: int | None = None
    verified_TE: NDArray[np.bool_] | None = None

    @property
    def probability_TC(self) -> NDArray[np.float32]:
        """Class probabilities, float32: the outputs, or the softmax of mixed logits.

        Raises:
            InvalidInputError: the outputs are hidden states.
        """
        if self.kind == "probabilities":
            return self.output_T
        if self.kind == "hidden states":
            raise InvalidInputError("the outputs' kind", self.kind, "probabilities or logits")
        odds_TC = np.exp(self.output_T - self.output_T.max(axis=-1, keepdims=True))
        return np.asarray(odds_TC / odds_TC.sum(axis=-1, keepdims=True))

    @property
    def reached_T(self) -> NDArray[np.float64]:
        """The share of the gate's score for the wanted experts that answered, from 0 to 1."""
        return self.dispatched.reached_T

    @property
    def degraded_T(self) -> NDArray[np.bool_]:
        """True where an expert did not answer, though the policy would have asked it, had all been alive."""
        return self.dispatched.degraded_T

    @property
    def chose_none_T(self) -> NDArray[np.bool_]:
        """True where the policy chose no expert: the client's own answered as a last resort."""
        return self.dispatched.chose_none_T
