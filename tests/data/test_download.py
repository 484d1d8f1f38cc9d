"""CIFAR-10 fetched from a real HTTP server on this machine."""

import hashlib
import http.server
import io
import os
import socket
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from airmoe.data import cifar, download, load_images
from airmoe.errors import DataError
from tests.data import cifar_files


def _expect(monkeypatch: pytest.MonkeyPatch, **changes: str) -> None:
    """Let CIFAR-10 come from elsewhere, or have another hash."""
    official = cifar.CIFAR_SETS["cifar10"]
    monkeypatch.setitem(cifar.CIFAR_SETS, "cifar10", replace(official, **changes))


@dataclass
class Answer:
    """What the server sends, whatever is asked for."""

    body: bytes = b""
    declared_length: int | None = None
    status: int = 200


@pytest.fixture
def answer(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Answer]:
    """A server that stands for www.cs.toronto.edu; its answer is expected to have the right hash."""
    answer = Answer()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answer.status)
            if answer.declared_length is not None:
                self.send_header("Content-Length", str(answer.declared_length))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/cifar-10-binary.tar.gz"
        _expect(monkeypatch, url=url)
        yield answer
        server.shutdown()
        thread.join(timeout=10)


@pytest.fixture
def serve(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    def serve(body: bytes) -> None:
        answer.body, answer.declared_length = body, len(body)
        _expect(monkeypatch, sha256=hashlib.sha256(body).hexdigest())

    return serve


@pytest.fixture(scope="session")
def official_archive(official_tree: Path) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as tar:
        tar.add(official_tree, arcname=cifar_files.FOLDER)
    return packed.getvalue()


def _archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def _file(name: str, content: bytes = b"x") -> tuple[tarfile.TarInfo, bytes]:
    return tarfile.TarInfo(name), content


def _link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    link = tarfile.TarInfo(name)
    link.type, link.linkname = kind, target
    return link, b""


def _failure() -> str:
    with pytest.raises(DataError) as caught:
        load_images("cifar10")
    return str(caught.value)


def _is_empty(folder: Path) -> bool:
    return not folder.exists() or not any(folder.iterdir())


def test_a_download_is_unpacked_into_the_cache_and_loaded(
    official_archive: bytes, serve: Callable[[bytes], None], cache: Path
) -> None:
    serve(official_archive)
    images = load_images("cifar10")
    assert images.train_images.shape == (50_000, 3, 32, 32)
    assert (images.train_images[20_000:30_000, 0] == 3).all()
    assert [entry.name for entry in cache.iterdir()] == [cifar_files.FOLDER], "the archive is not kept"
    assert sorted(file.name for file in (cache / cifar_files.FOLDER).iterdir()) == sorted(cifar_files.FILES)


def test_a_second_load_needs_no_server(
    official_archive: bytes, serve: Callable[[bytes], None], answer: Answer
) -> None:
    serve(official_archive)
    first = load_images("cifar10")
    answer.status = 500
    assert np.array_equal(load_images("cifar10").test_labels, first.test_labels)


def test_a_copy_that_another_process_put_there_meanwhile_is_used(
    official_archive: bytes, official_tree: Path, serve: Callable[[bytes], None], cache: Path
) -> None:
    def put_there(activity: str, done: int, total: int, note: str = "") -> None:
        if done == total:
            cifar_files.link_tree(official_tree, cache / cifar_files.FOLDER)

    serve(official_archive)
    assert len(load_images("cifar10", progress=put_there).test_labels) == 10_000
    assert [entry.name for entry in cache.iterdir()] == [cifar_files.FOLDER]


def test_progress_counts_up_to_the_whole(official_archive: bytes, serve: Callable[[bytes], None]) -> None:
    serve(official_archive)
    calls: list[tuple[int, int]] = []

    def told(activity: str, done: int, total: int, note: str = "") -> None:
        assert activity == "download"
        calls.append((done, total))

    load_images("cifar10", progress=told)
    assert calls == sorted(calls)
    assert len(calls) > 1
    assert {total for _, total in calls} == {len(official_archive)}
    assert calls[-1][0] == len(official_archive)


def test_a_wrong_hash_is_named_beside_the_expected_one_and_nothing_is_kept(
    serve: Callable[[bytes], None], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(b"not the archive")
    _expect(monkeypatch, sha256="0" * 64)
    message = _failure()
    assert hashlib.sha256(b"not the archive").hexdigest() in message
    assert f"expected {'0' * 64}" in message
    assert _is_empty(cache)


def test_a_connection_that_breaks_off_is_reported_and_nothing_is_kept(
    serve: Callable[[bytes], None], answer: Answer, cache: Path
) -> None:
    serve(b"half of it")
    answer.declared_length = 20
    assert "broke off after 10 of 20 bytes" in _failure()
    assert _is_empty(cache)


def test_an_error_status_is_reported(answer: Answer, cache: Path) -> None:
    answer.status = 404
    assert "HTTP Error 404" in _failure()
    assert _is_empty(cache)


def test_a_refused_connection_says_which_files_to_put_where(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/cifar-10-binary.tar.gz"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    _expect(monkeypatch, url=url)
    message = _failure()
    for part in (
        f"{url} cannot be downloaded",
        "refused",
        "data_batch_1.bin to data_batch_5.bin, test_batch.bin and batches.meta.txt",
        "cifar-10-binary.tar.gz",
        f"into {cache / cifar_files.FOLDER}",
        "--data-dir",
        "AIRMOE_DATA",
    ):
        assert part in message
    assert "\n" not in message


def test_a_server_that_stops_answering_is_given_up(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_TIMEOUT_S", 0.2)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        _expect(monkeypatch, url=f"http://127.0.0.1:{silent.getsockname()[1]}/x.tar.gz")
        assert "timed out" in _failure()


def test_an_endless_answer_is_given_up(
    serve: Callable[[bytes], None], answer: Answer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(bytes(2_000_000))
    answer.declared_length = None
    monkeypatch.setattr(cifar, "_MAX_ARCHIVE_BYTES", 1_000_000)
    assert "larger than the expected 1000000 bytes" in _failure()
    assert _is_empty(cache)


def test_members_that_point_outside_are_not_written(tmp_path: Path) -> None:
    archive, folder = tmp_path / "evil.tar.gz", tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    archive.write_bytes(
        _archive(
            _file("../evil"),
            _file(str(tmp_path / "absolute")),
            _link("d", ".."),
            _file("d/evil"),
            _file("d/wanted"),
        )
    )
    download.extract(archive, {"d/wanted": 10}, folder)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "a",
        "a/b",
        "a/b/wanted",
        "evil.tar.gz",
    ]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_an_expected_member_that_is_no_regular_file_is_refused(
    serve: Callable[[bytes], None], cache: Path, kind: bytes
) -> None:
    serve(_archive(_link(f"{cifar_files.FOLDER}/data_batch_1.bin", "/etc/passwd", kind)))
    assert "data_batch_1.bin is not a regular file" in _failure()
    assert _is_empty(cache)


def test_a_member_larger_than_a_batch_is_refused(serve: Callable[[bytes], None], cache: Path) -> None:
    serve(_archive(_file(f"{cifar_files.FOLDER}/data_batch_1.bin", bytes(30_730_001))))
    assert "of at most 30730000 bytes" in _failure()
    assert _is_empty(cache)


def test_an_archive_without_an_expected_member_is_refused(
    serve: Callable[[bytes], None], cache: Path
) -> None:
    serve(_archive(_file("other")))
    assert "cifar-10-binary.tar.gz: cifar-10-batches-bin/data_batch_1.bin is not" in _failure()
    assert _is_empty(cache)


@pytest.mark.parametrize("body", [b"no archive", _archive(_file("member", os.urandom(4000)))[:2000]])
def test_a_damaged_archive_is_refused(serve: Callable[[bytes], None], cache: Path, body: bytes) -> None:
    serve(body)
    assert "cifar-10-binary.tar.gz: cannot be unpacked" in _failure()
    assert _is_empty(cache)


def test_a_cache_that_cannot_be_made_is_reported(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "or into a folder that --data-dir or AIRMOE_DATA names" in _failure()
