"""How many bytes a client sends and receives in each stage, by formula: what the engine counts must equal it.

A value has 4 bytes, and 8 in a sum. Both directions count, and so does a letter between two clients, once,
at the client that asked. A pair is an image and an expert that its client asked about it; the own expert's
pairs cost nothing.
"""

_VALUE, _SUM = 4, 8
"""Bytes of a float32 and of a float64."""


def averaging_bytes(values: int, rounds: int) -> int:
    """Return the bytes of federated averaging: the weights come down and go up in every round.

    Args:
        values: of all weights that are averaged: |F| + |head| in FedCE, |G| in FedGate. In FedSC, |F| +
            |projector| + p^2: the weights and the matrix of p rows come down and go up, too.
        rounds: how many.

    Examples:
        >>> from airmoe.networked.stage_bytes import averaging_bytes
        >>> averaging_bytes(values=2916 + 4010, rounds=80)
        4432640
    """
    return 2 * rounds * values * _VALUE


def told_bytes(values: int) -> int:
    """Return the bytes of weights that a client is told: the final extractor, and the gate that all share."""
    return values * _VALUE


def answers_bytes(remote_pairs: int, features: int, classes: int, levels: int = 1) -> int:
    """Return the bytes of queries and their answers: features out, probabilities back.

    Args:
        remote_pairs: that the client asked other clients about.
        features: width of a query.
        classes: width of an answer.
        levels: SNRs at which each pair is asked.
    """
    return remote_pairs * levels * (features + classes) * _VALUE


def moments_bytes(features: int) -> int:
    """Return the bytes of the features' mean and deviation: two sums up, two vectors down."""
    return 2 * features * (_SUM + _VALUE)


def closed_form_bytes(features: int, experts: int) -> int:
    """Return the bytes of the closed-form gate without its answers: moments down, two sums up.

    The sums are the Gram matrix of the features with a constant, and its products with the experts' answers.
    """
    bordered = features + 1
    return 2 * features * _VALUE + bordered * (bordered + experts) * _SUM
