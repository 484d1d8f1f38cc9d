"""A snapshot of all directed links.

Shape suffixes: N nodes, M subcarriers, T items, E experts.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from airmoe.checks import indices, integer_at_least, real_array, refuse_shape, refuse_where
from airmoe.errors import InvalidInputError
from airmoe.links.radio import Ofdma
from airmoe.showing import MOST_CELLS, OneLine, heat_map, in_html

OWN_NODE_SNR_DB = 30.0


@dataclass(frozen=True, eq=False, repr=False)
class Links(OneLine):
    """The channel power gains of all directed links at one moment; immutable.

    Args:
        gain_NNM: power gain of link i -> j on subcarrier m, linear, finite, >= 0; copied, then read-only.
            The diagonal is not used: a node reaches itself without transmitting.
        radio: the radio that uses the links; M is `radio.subcarriers`.

    Raises:
        InvalidInputError: the shape is wrong, or a gain is negative or not finite.
    """

    gain_NNM: NDArray[np.float64]
    radio: Ofdma
    _observed: Links | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        gain_NNM = real_array("gain_NNM", self.gain_NNM).copy()
        nodes = gain_NNM.shape[0] if gain_NNM.ndim and gain_NNM.shape[0] else 1
        refuse_shape("gain_NNM", gain_NNM, (nodes, nodes, self.radio.subcarriers), "(N, N, M)")
        refuse_where("gain_NNM", gain_NNM, ~(np.isfinite(gain_NNM) & (gain_NNM >= 0)), "finite and >= 0")
        gain_NNM.flags.writeable = False
        object.__setattr__(self, "gain_NNM", gain_NNM)

    @classmethod
    def from_gain(cls, gain_NNM: ArrayLike, radio: Ofdma) -> Self:
        """Return links with these power gains (N, N, M), linear.

        Raises:
            InvalidInputError: the shape is wrong, or a gain is negative or not finite.

        Examples:
            >>> import numpy as np
            >>> from airmoe.links import Links, Ofdma
            >>> radio = Ofdma(subcarriers=2, noise_w=1e-14)
            >>> links = Links.from_gain(np.full((3, 3, 2), 1e-11), radio)
            >>> links.snr_db([0]).round().tolist()  # to oneself 30 dB
            [[30.0, 10.0, 10.0]]
        """
        return cls(real_array("gain_NNM", gain_NNM), radio)

    @classmethod
    def from_snr(cls, snr_db: ArrayLike, radio: Ofdma, nodes: int | None = None) -> Self:
        """Return links with these signal-to-noise ratios: H = 10^(snr/10) N0 / P0.

        Args:
            snr_db: dB; a scalar for all links (then `nodes` is needed), (N, N) for all subcarriers of a
                link, or (N, N, M). -inf makes a link unreachable.
            radio: the radio that uses the links.
            nodes: N; left out, it is taken from the shape of `snr_db`.

        Raises:
            InvalidInputError: a wrong shape, NaN or +inf in `snr_db`, or a scalar without `nodes`.

        Examples:
            >>> import numpy as np
            >>> from airmoe.links import Links, Ofdma
            >>> links = Links.from_snr([[0.0, 20.0], [-np.inf, 0.0]], Ofdma(subcarriers=4))
            >>> links.gain_NNM.shape
            (2, 2, 4)
            >>> links.snr_db([0, 1]).round().tolist()
            [[30.0, 20.0], [-inf, 30.0]]
        """
        snr = real_array("snr_db", snr_db)
        refuse_where("snr_db", snr, ~(snr < np.inf), "a number of dB, or -inf for an unreachable link")
        if nodes is None:
            if snr.ndim == 0:
                raise InvalidInputError("nodes", nodes, "the number of nodes, when snr_db is a scalar")
            nodes = snr.shape[0]
        nodes = integer_at_least("nodes", nodes, 1)
        shape_NNM = (nodes, nodes, radio.subcarriers)
        if snr.ndim == 2:
            refuse_shape("snr_db", snr, shape_NNM[:2], "(N, N)")
            snr = snr[:, :, np.newaxis]
        elif snr.ndim != 0:
            refuse_shape("snr_db", snr, shape_NNM, "(N, N, M)")
        gain = 10.0 ** (snr / 10) / radio.snr_per_gain
        return cls(np.broadcast_to(gain, shape_NNM), radio)

    def __repr__(self) -> str:
        low_db, high_db = self._range_db()
        seen = "" if self._observed is None else ", observed otherwise"
        size = f"{self.nodes} nodes, {self.radio.subcarriers} subcarriers"
        return f"Links({size}, best subcarriers at {low_db:.1f} to {high_db:.1f} dB{seen})"

    def _repr_html_(self) -> str:
        """Return a heat map of the SNR of every link on its best subcarrier."""
        if self.nodes > MOST_CELLS:
            return in_html(self)
        snr_db_NN = np.where(np.eye(self.nodes, dtype=np.bool_), np.nan, self._snr_db_NN)

        def tip(source: int, node: int) -> str:
            return f"link {source} to {node}: {self._snr_db_NN[source, node]:.1f} dB"

        return heat_map(snr_db_NN, f"SNR of the best subcarrier, dB: {self.nodes} nodes", tip)

    def _range_db(self) -> tuple[float, float]:
        snr_db_L = self._snr_db_NN[~np.eye(self.nodes, dtype=np.bool_)]
        return (float(snr_db_L.min()), float(snr_db_L.max())) if len(snr_db_L) else (np.nan, np.nan)

    @property
    def nodes(self) -> int:
        """N, the number of nodes."""
        return len(self.gain_NNM)

    @property
    def observed(self) -> Links:
        """The links that gates and policies see: these, unless `with_observed` set others."""
        return self if self._observed is None else self._observed

    def with_observed(self, observed: Links) -> Links:
        """Return the same links; gates and policies see `observed` (delayed or noisy) instead.

        Raises:
            InvalidInputError: `observed` has another number of nodes or subcarriers.
        """
        refuse_shape("observed.gain_NNM", observed.gain_NNM, self.gain_NNM.shape, "(N, N, M)")
        return replace(self, _observed=observed)

    def snr_db(self, source_T: ArrayLike, node: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return the SNR from each item's node to each expert's node: the band mean of linear SNRs.

        Args:
            source_T: integer, the node that holds each item.
            node: integer (E,), the node of each expert, or (T, E), that of each expert for each item; left
                out, expert e is on node e.

        Returns:
            float64 (T, E), dB; 30 dB where the expert is at the item's own node, -inf where the gain is 0.

        Raises:
            InvalidInputError: a node does not exist, or an array has another shape.
        """
        last = self.nodes - 1
        source = indices("source_T", source_T, 0, last)
        refuse_shape("source_T", source, (source.size,), "one dimension")
        serving = indices("node", np.arange(self.nodes) if node is None else node, 0, last)
        if serving.ndim != 2:
            refuse_shape("node", serving, (serving.size,), "(E,) or (T, E)")
        elif len(serving) != len(source):
            refuse_shape("node", serving, (len(source), serving.shape[1]), "(T, E)")
        return np.asarray(self._snr_db_NN[source[:, np.newaxis], serving])

    def energy_per_bit_j(self, subcarrier_NN: ArrayLike) -> NDArray[np.float64]:
        """Return the energy of a bit on each directed link, P0 / r on the link's subcarrier.

        Args:
            subcarrier_NN: integer, the subcarrier of each link, -1 for none; the diagonal is ignored.

        Returns:
            float64 (N, N), J per bit; 0 on the diagonal, inf without a subcarrier or where its gain is 0.

        Raises:
            InvalidInputError: a wrong shape, or a subcarrier that does not exist.
        """
        subcarrier_NN = indices("subcarrier_NN", subcarrier_NN, -1, self.radio.subcarriers - 1)
        refuse_shape("subcarrier_NN", subcarrier_NN, (self.nodes, self.nodes), "(N, N)")
        # Index -1 reads the last subcarrier; that value is replaced below.
        gain_NN = np.take_along_axis(self.gain_NNM, subcarrier_NN[:, :, np.newaxis], axis=2)[:, :, 0]
        energy_NN = self.radio.energy_per_bit_j(gain_NN)
        energy_NN[subcarrier_NN < 0] = np.inf
        np.fill_diagonal(energy_NN, 0.0)
        return energy_NN

    @cached_property
    def best_subcarrier_NN(self) -> NDArray[np.int64]:
        """The subcarrier on which each link has its largest gain, int64 (N, N); -1 on the diagonal.

        Several links may share a subcarrier here, since each is considered alone.
        """
        best_NN = np.asarray(self.gain_NNM.argmax(axis=2), dtype=np.int64)
        np.fill_diagonal(best_NN, -1)
        return best_NN

    @cached_property
    def _snr_db_NN(self) -> NDArray[np.float64]:
        with np.errstate(divide="ignore"):
            snr_db_NN = 10 * np.log10(self.gain_NNM.mean(axis=2) * self.radio.snr_per_gain)
        np.fill_diagonal(snr_db_NN, OWN_NODE_SNR_DB)
        return np.asarray(snr_db_NN)
