"""Texts that processes write while nodes are killed, left out, or asked by an OpenAI client's request."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from airmoe.errors import MeshError
from airmoe.language.endpoint import CompletionServer
from airmoe.language.generation import Written
from airmoe.language.mesh import MeshSource
from airmoe.language.record import TextRecord
from airmoe.language.writer import Writer
from airmoe.mesh.fleet import NodeFleet, free_addresses
from airmoe.mesh.local_identities import forget_local_identities
from airmoe.runfolder import client_folders
from airmoe.studies.text_demo.results import TextInMesh

DRAWN: dict[str, Any] = {"temperature": 0.7, "seed": 0}
"""How bytes are drawn, alike in every text: where a text is the same, so were all logits, nearly."""

START_S = 30.0
"""How long all nodes may take to be found."""


@dataclass(frozen=True)
class Text:
    """Bytes as they came.

    Attributes:
        data: the bytes.
        seconds: that each took.
        added: what the experts of every layer added to each byte's hidden state.
        degraded: how many lack an expert that the gate wanted.
        missed: nodes that did not answer in time.
    """

    data: bytes
    seconds: tuple[float, ...]
    added: tuple[Tensor, ...]
    degraded: int
    missed: tuple[int, ...]

    @property
    def byte_ms(self) -> float:
        """Median milliseconds of a byte; the first one, of the prompt, does not count."""
        return float(np.median(self.seconds[1:])) * 1e3


def text_of(steps: Iterator[Written], after: Callable[[int], None] = lambda written: None) -> Text:
    """Return what comes, one sequence; ``after`` is called with the number of bytes after each of them."""
    data, seconds, added, record = b"", list[float](), list[Tensor](), TextRecord()
    begin_s = time.perf_counter()
    for step in steps:
        seconds.append(time.perf_counter() - begin_s)
        data += step.byte_B.tobytes()
        added += [layer.y_TC.clone() for layer in step.layers]
        record.add(step.layers)
        begin_s = time.perf_counter()  # before it is killed: what follows is what a reader waits for
        after(len(data))
    return Text(data, tuple(seconds), tuple(added), record.degraded, tuple(sorted(record.missed_nodes)))


@dataclass(frozen=True)
class Served:
    """A run folder whose nodes are processes, and a source at node 0.

    Args:
        fleet: the processes.
        source: reaches them.
        length: bytes of a text.
        prompt: what it begins with.
        expected: the text of the model in one process.
    """

    fleet: NodeFleet
    source: MeshSource
    length: int
    prompt: bytes
    expected: Text

    @classmethod
    def of(cls, run: Path, length: int, prompt: bytes, expected: Text, open_: ExitStack) -> Served:
        """Return it, open until ``open_`` is closed.

        Raises:
            MeshError: a node does not start, or is not found.
        """
        folders = client_folders(run)
        open_.callback(forget_local_identities, run)  # no key is left in a folder that may be shared
        fleet = open_.enter_context(NodeFleet(folders))
        source = open_.enter_context(MeshSource(folders[0], fleet.addresses, identity=fleet.identities[0]))
        if not source.wait_for_all(START_S):
            raise MeshError(f"not all of {len(folders)} nodes were found within {START_S:g} s")
        return cls(fleet, source, length, prompt, expected)

    def write(self, what: str, *, without: Collection[int] = (), kill: int | None = None) -> TextInMesh:
        """Return a text; ``kill`` is a node that dies in the middle of it."""
        return self.told(what, self.text(without=without, kill=kill), killed=kill is not None)

    def text(self, *, without: Collection[int] = (), kill: int | None = None) -> Text:
        """Return a text as it came."""

        def after(written: int) -> None:
            if kill is not None and written == self.length // 2:
                self.fleet.kill(kill)

        steps = Writer.over(self.source).write([self.prompt], self.length, without=without, **DRAWN)
        return text_of(steps, after)

    def told(self, what: str, text: Text, *, killed: bool = False) -> TextInMesh:
        """Return what is told of a text."""
        return TextInMesh(
            what,
            text.data.decode(errors="replace"),
            text.data == self.expected.data,
            text.degraded,
            text.missed,
            text.byte_ms,
            text.seconds[self.length // 2] * 1e3 if killed else None,
        )

    def asked_over_http(self, what: str) -> TextInMesh:
        """Return a text that was asked for as OpenAI's clients ask, piece by piece.

        Raises:
            MeshError: the endpoint does not answer as it should.
        """
        name, writer = self.source.manifest.mesh, Writer.over(self.source)
        body = {"model": name, "prompt": self.prompt.decode(), "max_tokens": self.length}
        with CompletionServer(writer, name, free_addresses(1)[0]) as server:
            address = server.url.removeprefix("http://").removesuffix("/v1")
            connection = http.client.HTTPConnection(address, timeout=START_S)
            told = {"Content-Type": "application/json"}
            asked = json.dumps(body | DRAWN | {"stream": True})
            connection.request("POST", "/v1/completions", asked, told)
            answer = connection.getresponse()
            pieces, seconds, begin_s = list[str](), list[float](), time.perf_counter()
            for line in answer:
                if answer.status != 200 or not line.startswith(b"data: {"):
                    continue
                seconds.append(time.perf_counter() - begin_s)
                pieces += [choice["text"] for choice in json.loads(line[len(b"data: ") :])["choices"]]
                begin_s = time.perf_counter()
            connection.close()
        if answer.status != 200 or not pieces:
            raise MeshError(f"the endpoint answered with status {answer.status}; expected a stream of text")
        text = "".join(pieces)
        same = text == self.expected.data.decode(errors="replace")
        return TextInMesh(what, text, same, 0, (), float(np.median(seconds[1:])) * 1e3)
