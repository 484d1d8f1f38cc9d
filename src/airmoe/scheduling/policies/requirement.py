"""What the scores of an item's experts must sum to."""

from dataclasses import dataclass

from airmoe.checks import integer_at_least, number_within


@dataclass(frozen=True)
class Requirement:
    """The scores of an item's experts, at most D, must sum to at least q = z * importance^layer.

    With an importance below 1, deeper layers require less.

    Args:
        importance: gamma0, from 0 to 1.
        max_experts: D, the most experts an item may get.
        z: the requirement before the layer's importance, from 0 to 1.

    Raises:
        InvalidInputError: a value out of range.
    """

    importance: float = 0.5
    max_experts: int = 2
    z: float = 1.0

    def __post_init__(self) -> None:
        number_within("importance", self.importance, 0, 1)
        integer_at_least("max_experts", self.max_experts, 1)
        number_within("z", self.z, 0, 1)

    def threshold(self, layer: int) -> float:
        """Return q on a layer, counted from 1."""
        return self.z * self.importance**layer
