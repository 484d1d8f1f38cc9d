"""A mesh is looked at again and again, be it of images or of texts."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from airmoe.manifest import read_manifest
from airmoe.mesh import MeshClient, Node
from airmoe.mesh.layers import MeshLayers
from airmoe.monitor import watcher as watching
from airmoe.monitor.asking import asks_images
from airmoe.monitor.look import Look
from airmoe.monitor.watcher import Watcher
from airmoe.runfolder import client_folders
from tests.mesh.ports import free_address
from tests.mesh.steering import LONG_S, wait_until
from tests.threads import started_since_now


@pytest.fixture(scope="module")
def client(run_folder: Path) -> Iterator[MeshClient]:
    """At node 0 of a mesh whose node 1 serves."""
    folders, address = client_folders(run_folder), free_address()
    with Node(folders[1], address), MeshClient(folders[0], [address], listen=free_address()) as client:
        client.wait_for_nodes(1, LONG_S)
        yield client


def test_there_is_a_look_at_once_and_then_one_after_another(client: MeshClient) -> None:
    with Watcher(client.mesh) as watcher:
        number, look = watcher.latest()
        assert number == 0
        assert [node.state for node in look.nodes] == ["gone", "well", "gone", "gone"]
        wait_until(lambda: watcher.latest()[0] >= 2, LONG_S)
        assert watcher.latest()[1].at_s > look.at_s


def test_while_nobody_watches_it_looks_less_often_and_at_once_when_somebody_comes(
    client: MeshClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "WATCHED_S", 0.0)
    monkeypatch.setattr(watching, "UNWATCHED_S", LONG_S)
    with Watcher(client.mesh) as watcher:
        time.sleep(2 * watching.EVERY_S)
        assert watcher._number == 0
        watcher.latest()
        wait_until(lambda: watcher._number == 1, LONG_S / 2)


def test_what_one_look_meets_does_not_end_the_others(
    client: MeshClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Watcher(client.mesh) as watcher:
        with monkeypatch.context() as patch:
            patch.setattr(watcher._picture, "look", lambda *_: 1 / 0)
            time.sleep(2 * watching.EVERY_S)
        number = watcher.latest()[0]
        wait_until(lambda: watcher.latest()[0] > number, LONG_S)


def test_closing_it_ends_its_thread_and_twice_does_no_harm(client: MeshClient) -> None:
    watchers = started_since_now("airmoe watcher")
    watcher = Watcher(client.mesh)
    assert watchers() == 1
    watcher.close()
    watcher.close()
    assert watchers() == 0


def test_a_mesh_of_texts_is_seen_layer_by_layer(tmp_path: Path) -> None:
    """Who writes is seen by its requests; it counts no joules."""
    pytest.importorskip("torch", reason="needs airmoe[train]")
    from airmoe.language import mesh
    from airmoe.language.writer import Writer
    from tests.language.served import served

    run, _ = served(tmp_path / "run")
    folders, seed = client_folders(run), free_address()
    manifest = read_manifest(folders[0])
    numbers = [layer.layer for layer in manifest.layers]
    assert len(numbers) > 1
    assert not asks_images(manifest)
    with ExitStack() as open_:
        for folder in folders:
            open_.enter_context(Node(folder, seed if folder == folders[0] else free_address(), [seed]))
        layers = MeshLayers(folders[0], manifest, numbers, [seed], listen=free_address())
        open_.enter_context(closing(layers))
        assert layers.wait_for_all(LONG_S)
        watcher = open_.enter_context(Watcher(layers))
        _, look = watcher.latest()
        assert {node.state for node in look.nodes} == {"well"}
        assert look.nodes[0].experts.startswith("layer 1: ")
        source = open_.enter_context(mesh.MeshSource(folders[1], [seed], hedge_s=LONG_S))
        assert source.wait_for_all(LONG_S)
        writer, seen = Writer.over(source, None), list[Look]()

        def is_seen() -> bool:
            list(writer.write([b"an expert"], 4))
            seen.append(watcher.latest()[1])
            return bool(seen[-1].clients) and seen[-1].history[-1].requests_s > 0

        wait_until(is_seen, LONG_S)
        assert seen[-1].clients == [1]
        assert {link.source for link in seen[-1].links if link.requests_s} == {1}
        assert seen[-1].history[-1].energy_j is None
