"""What few subcarriers leave out of reach, said before anybody wonders."""

import logging

from airmoe.checks import integer_at_least
from airmoe.manifest import MOST_GAINS


def why_out_of_reach(nodes: int, subcarriers: int) -> str | None:
    """Return why some experts cannot be reached over ideal links; None where every link has a subcarrier.

    Each directed link needs a subcarrier of its own: N (N - 1) for N nodes. The standing assignment leaves
    the others without one. A joint policy assigns subcarriers to the links that it uses.

    Args:
        nodes: N, every node that has links, a server too.
        subcarriers: M.

    Raises:
        InvalidInputError: a number below 1.

    Examples:
        >>> from airmoe.dispatch import why_out_of_reach
        >>> why_out_of_reach(nodes=10, subcarriers=128)
        >>> why_out_of_reach(nodes=20, subcarriers=128).split(":")[0]
        '128 subcarriers are too few for the 380 links between 20 nodes'
    """
    nodes = integer_at_least("nodes", nodes, 1)
    subcarriers, links = integer_at_least("subcarriers", subcarriers, 1), nodes * (nodes - 1)
    if subcarriers >= links:
        return None
    cure = f"{links:,} subcarriers serve all links"
    if nodes**2 * links > MOST_GAINS:  # what no manifest can have is no advice
        cure = f"at most {MOST_GAINS // nodes**2:,} fit in memory; analog links need none of their own"
    return (
        f"{subcarriers:,} subcarriers are too few for the {links:,} links between {nodes} nodes: "
        f"{links - subcarriers:,} links have none, and a node reaches {subcarriers / nodes:.1f} of "
        f"{nodes - 1} others on average, unless a joint policy decides; {cure}"
    )


def warn_of_reach(nodes: int, subcarriers: int, transmission: str) -> None:
    """Log a warning if few subcarriers leave experts out of reach; analog links need none of their own."""
    why = why_out_of_reach(nodes, subcarriers) if transmission == "ideal" else None
    if why is not None:
        logging.getLogger("airmoe").warning("links.subcarriers: %s", why)
