"""Which clients take part in a round, where not all do."""

from dataclasses import dataclass

from airmoe.checks import integer_at_least, number_within
from airmoe.randomness import stream


@dataclass(frozen=True)
class Participation:
    """A share of the clients, drawn anew in every round.

    The draw depends on the seed, the stage and the round alone, so a resumed run draws the same clients.

    Args:
        share: of all clients, above 0 and at most 1; rounded to the nearest number of clients, at least one.
        seed: the run's seed.

    Raises:
        InvalidInputError: a share or a seed out of range.

    Examples:
        >>> from airmoe.federated import Participation
        >>> Participation(0.5, seed=0).drawn("features", round_=0, clients=4)
        (0, 3)
    """

    share: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        number_within("participation", self.share, 1e-9, 1)
        integer_at_least("seed", self.seed, 0)

    def drawn(self, stage: str, round_: int, clients: int) -> tuple[int, ...]:
        """Return the numbers of the clients of a round, ascending.

        Args:
            stage: its name.
            round_: from 0.
            clients: how many there are in all.
        """
        count = max(1, round(self.share * clients))
        if count == clients:
            return tuple(range(clients))
        random = stream(self.seed, f"participants of {stage}", round_)
        return tuple(sorted(random.choice(clients, count, replace=False).tolist()))


ALL = Participation()
"""All clients, in every round."""
