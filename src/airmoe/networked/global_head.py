"""The baseline that is one linear head for all clients, in closed form: ridge regression on sums.

    W = argmin |[h, 1] W - onehot(y)|^2 + ridge |W without the constant|^2

with standardised features h of the mixture's extractor. The sums are the Gram matrix of [h, 1] and its
products with the labels; they are the same for every division of the images. A mixture whose gate and experts
are as good as its features allow comes near this head.

Shape suffixes: T items, F features, G features and a constant, C classes.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from airmoe.federated import Loop, Message, State, Summing, federate
from airmoe.networked.client_data import ClientData
from airmoe.networked.closed_form import bordered, ridge
from airmoe.networked.features import features_of
from airmoe.networked.moments import Moments, MomentsClient
from airmoe.runs.checkpoint import MetricsRow


class HeadSumsClient:
    """A client that sends the sums that a linear head is fitted to.

    Args:
        features_TF: float32, of this client's images.
        labels_T: int64, their classes.
        classes: C.
    """

    def __init__(self, features_TF: Tensor, labels_T: Tensor, classes: int) -> None:
        self._features, self._labels, self._classes = features_TF, labels_T, classes

    def client_step(self, exchange: str, state: State, message: Message) -> tuple[State, Message]:
        """Reply with ``gram`` (G, G) and ``cross`` (G, C), float64, of features by the moments that came."""
        bordered_TG = bordered(self._features, message.tensors["mean"], message.tensors["std"])
        label_TC = functional.one_hot(self._labels, self._classes).double()
        sums = {"gram": bordered_TG.T @ bordered_TG, "cross": bordered_TG.T @ label_TC}
        return state, Message(sums, {"samples": len(self._labels)})


def fit_global_head(
    extractor: nn.Module, data: ClientData, penalty: float
) -> tuple[Tensor, Sequence[MetricsRow]]:
    """Return the class that a linear head names for each held-out image (T,), and the metrics rows.

    Args:
        extractor: an `airmoe.nn.Extractor`.
        data: of all clients.
        penalty: ridge.
    """
    features_TF, classes = features_of(extractor, data.images_TCHW), len(data.class_names)
    clients = len(features_TF)
    moments, moments_rows = federate(
        Moments("head statistics", clients), {}, Loop([MomentsClient(each) for each in features_TF]), 1
    )
    each = zip(features_TF, data.labels_T, strict=True)
    sums, rows = federate(
        Summing("global head", clients, told=moments),
        {},
        Loop([HeadSumsClient(features, labels, classes) for features, labels in each]),
        1,
    )
    weight_GC = ridge(sums["gram"], sums["cross"], penalty)
    (test_TF,) = features_of(extractor, [data.test_images_TCHW])
    logits_TC = bordered(test_TF, moments["mean"], moments["std"]) @ weight_GC
    return logits_TC.argmax(dim=1), [*moments_rows, *rows]
