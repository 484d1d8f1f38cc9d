"""The methods of the study: how each is trained, what its gate sees, and who chooses."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Method:
    """One method.

    Attributes:
        name: its name in settings.
        training: "published", as arXiv 2504.00819 has it, or "overlap", which is the default of
            `airmoe.channel_aware`.
        stage_2: whether it is trained over links that differ, too.
        sees_links: whether its gate sees the SNR of every link, in stage 2 and when it is asked.
        no_good_link: whether some images of stage 2 have no good link, as the setting of that name says.
        chooses: who chooses experts when they are asked: the gate; the best observed SNR, whatever the gate
            says; chance; or an oracle, which is right if any expert would be, each over its own link.
        one_network: whether it has a single expert, which stands behind the first link; where the best SNR
            chooses, a copy of it stands behind every link.
        over_links: whether it is asked over links; else over perfect ones, which its gate is told.
    """

    name: str
    training: Literal["published", "overlap"] = "published"
    stage_2: bool = True
    sees_links: bool = False
    no_good_link: bool = False
    chooses: Literal["gate", "best snr", "chance", "oracle"] = "gate"
    one_network: bool = False
    over_links: bool = True

    @property
    def gate_is_told(self) -> bool:
        """Whether the gate is told how good links are when it is asked; else it takes all for good."""
        return self.sees_links and self.over_links


METHODS = {
    method.name: method
    for method in (
        Method("channel-aware", sees_links=True, no_good_link=True),
        Method("naive", stage_2=False),
        Method("naive-noise"),
        Method("naive-noise-no-good-link", no_good_link=True),
        Method("best-link", sees_links=True, no_good_link=True, chooses="best snr"),
        Method("random", chooses="chance"),
        Method("oracle", sees_links=True, no_good_link=True, chooses="oracle"),
        Method("channel-off", sees_links=True, no_good_link=True, over_links=False),
        Method("one-network", one_network=True),
        Method("one-network-best-link", one_network=True, chooses="best snr"),
        Method("overlap", "overlap", sees_links=True),
        Method("overlap-blind", "overlap"),
        Method("overlap-best-link", "overlap", sees_links=True, chooses="best snr"),
        Method("overlap-oracle", "overlap", sees_links=True, chooses="oracle"),
        Method("copied", "overlap", one_network=True, chooses="best snr"),
    )
}
"""The methods by name. Those with the same training share a model: best-link, oracle and channel-off have the
weights of channel-aware, random has those of naive-noise, and both kinds of one network have the same; so
have overlap, overlap-best-link and overlap-oracle."""
