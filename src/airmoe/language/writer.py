"""Who writes on from prompts: a model, and how its experts are reached."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from airmoe.language.calls import Reach
from airmoe.language.generation import Written, generate
from airmoe.language.mesh import MeshSource
from airmoe.language.source import load_source
from airmoe.language.transformer import MoeTransformer
from airmoe.scheduling import Policy
from airmoe.scheduling.parsing import as_policy


@dataclass(frozen=True)
class Writer:
    """Writes on from prompts whose texts rest at one node.

    Args:
        model: in evaluation mode.
        reach: how its experts are reached, `airmoe.language.MeshSource` or
            `airmoe.language.simulation.Simulated`.
        policy: chooses experts; None for top-k with the k of training.
        deadline_s: seconds for each batch in each layer.

    Examples:
        >>> import torch
        >>> from airmoe.language import MoeTransformer, TransformerSettings, Writer
        >>> from airmoe.language.simulation import Simulated
        >>> model = MoeTransformer(TransformerSettings(width=16, layers=2, heads=2, expert_hidden=32)).eval()
        >>> steps = list(Writer(model, Simulated(model)).write([b"wireless"], 3))
        >>> len(b"".join(step.byte_B.tobytes() for step in steps))  # a step has a byte for each prompt
        3
    """

    model: MoeTransformer
    reach: Reach
    policy: Policy | None = None
    deadline_s: float = 2.0

    @classmethod
    def over(cls, source: MeshSource, policy: Policy | str | None = None, deadline_s: float = 2.0) -> Writer:
        """Return one whose model is in a source's folder.

        Raises:
            RunFolderError: a file of the folder is missing or damaged.
        """
        model = load_source(source.folder, source.manifest)
        model.place(source.placements)
        return cls(model, source, None if policy is None else as_policy(policy), deadline_s)

    def write(
        self,
        prompts: Sequence[bytes],
        length: int,
        *,
        temperature: float = 0.0,
        seed: int = 0,
        without: Collection[int] = (),
    ) -> Iterator[Written]:
        """Return an iterator over the bytes that follow each prompt; see `generate`.

        Args:
            prompts: B of them, none empty.
            length: how many bytes.
            temperature: of drawing; 0 takes the most probable byte.
            seed: of what is drawn.
            without: nodes whose experts are left out; not the one where the texts rest.

        Raises:
            InvalidInputError: as `generate`, or a node that does not exist.
        """
        calls = self.reach.calls(self.policy, deadline_s=self.deadline_s, without=without)
        options = {"temperature": temperature, "seed": seed, "source": self.reach.node, "calls": calls}
        return generate(self.model, prompts, length, **options)  # type: ignore[arg-type]
