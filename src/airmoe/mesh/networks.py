"""Exported networks, run by ONNX Runtime on one thread.

Shape suffixes: T items, E experts.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from airmoe.errors import InvalidInputError, RunFolderError
from airmoe.manifest import INPUT, SNR_INPUT, ExpertSpec, GateSpec, LayerSpec, Manifest
from airmoe.onnx_runtime import onnx_session
from airmoe.runfolder import checked_file


class OnnxNetwork:
    """One exported network: arrays in, one array out; the first axis may have any length.

    Args:
        path: the ONNX file, checked by the caller.
        takes: name and item shape of every input, as the manifest says.
        gives: the shape of one output item, as the manifest says.

    Raises:
        RunFolderError: ONNX Runtime cannot read it, or its inputs or outputs have other names or shapes.
    """

    def __init__(self, path: Path, takes: Mapping[str, tuple[int, ...]], gives: tuple[int, ...]) -> None:
        try:
            self._session = onnx_session(path)
        except Exception as error:  # ONNX Runtime's own exceptions share no base class
            raise RunFolderError(f"{path} is not a readable ONNX network: {error}") from None
        inputs = {each.name: tuple(each.shape[1:]) for each in self._session.get_inputs()}
        (output,) = self._session.get_outputs()
        if list(inputs) != list(takes):
            raise RunFolderError(f"{path} takes {', '.join(inputs)}; the manifest says {', '.join(takes)}")
        for what, actual, expected in (
            *(("takes", inputs[name], takes[name]) for name in takes),
            ("gives", tuple(output.shape[1:]), gives),
        ):
            if actual != expected:
                raise RunFolderError(f"{path} {what} items of shape {actual}; the manifest says {expected}")
        self._names = list(takes)

    def __call__(self, *arrays_T: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the outputs (T, ...); the inputs come in the order of ``takes``, first axis T."""
        (output,) = self._session.run(None, dict(zip(self._names, arrays_T, strict=True)))
        return output  # type: ignore[no-any-return]


class OnnxGate:
    """An exported gate: payloads and, if it sees them, the SNR of the links, to scores.

    Args:
        path: the ONNX file, checked by the caller.
        layer: the layer whose experts it scores.
        sees_snr: whether it takes the SNR of the links, too.

    Raises:
        RunFolderError: as `OnnxNetwork`.
    """

    def __init__(self, path: Path, layer: LayerSpec, sees_snr: bool) -> None:
        self._sees_snr = sees_snr
        scores = (layer.experts,)
        takes = {INPUT: tuple(layer.payload)} | ({SNR_INPUT: scores} if sees_snr else {})
        self._network = OnnxNetwork(path, takes, scores)

    def __call__(
        self, payload_T: NDArray[np.float32], snr_db_TE: NDArray[np.float64] | None
    ) -> NDArray[np.float32]:
        """Return scores (T, E) of payloads; a gate that is blind to the channel ignores the SNR.

        Raises:
            InvalidInputError: no SNR for a gate that sees it.
        """
        if not self._sees_snr:
            return self._network(payload_T)
        if snr_db_TE is None:
            raise InvalidInputError("snr_db_TE", None, "(T, E) in dB: this gate looks at the links")
        return self._network(payload_T, snr_db_TE.astype(np.float32))


def expert_of(client_folder: Path, manifest: Manifest, expert: ExpertSpec) -> OnnxNetwork:
    """Return the network of an expert in a client's folder.

    Raises:
        RunFolderError: its file is missing, damaged or takes and gives other items than the layer says.
    """
    layer = manifest.layer(expert.layer)
    path = checked_file(client_folder, manifest, expert.file)
    return OnnxNetwork(path, {INPUT: tuple(layer.payload)}, tuple(layer.output.shape))


def gate_of(client_folder: Path, manifest: Manifest, gate: GateSpec) -> OnnxGate:
    """Return the network of a gate in a client's folder; see `expert_of` for what is refused."""
    path = checked_file(client_folder, manifest, gate.file)
    return OnnxGate(path, manifest.layer(gate.layer), gate.sees_snr)
