"""The page over HTTP: who gets it, what it tells, and what it refuses."""

import http.client
import json
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import pytest

from airmoe.errors import AddressError, DataError
from airmoe.monitor.look import Event, Look, NodeNow, Totals
from tests.mesh.ports import free_address
from tests.mesh.steering import wait_until

pytest.importorskip("starlette", reason="needs airmoe[monitor]")
pytest.importorskip("uvicorn", reason="needs airmoe[monitor]")

LOOK = Look(
    1.8e9,
    [
        NodeNow(0, "well", None, "0", ["<b>cat</b>"], 1),
        NodeNow(1, "gone", "none of its experts is alive", "1"),
    ],
    [],
    [],
    0,
    0.0,
    [Totals(0.0, 0.0, None, None, None)],
    [Event(1.8e9, "looking", "note")],
)


class Served:
    """A page, what it was asked, and a browser's way to it."""

    def __init__(self, address: str) -> None:
        from airmoe.monitor.page import Page

        self.address, self.number = address, 0
        self.asked: list[tuple[bytes, str]] = []
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.page = Page({"mesh": "lab"}, self.latest, self.ask, address)
        self.token = self.page.url.rpartition("=")[2]
        self.cookie = f"airmoe-{address.rpartition(':')[2]}={self.token}"

    def latest(self) -> tuple[int, Look]:
        return self.number, replace(LOOK, at_s=LOOK.at_s + self.number)

    def ask(self, data: bytes, policy: str) -> dict[str, Any]:
        self.asked.append((data, policy))
        self.goes_on.wait(60)
        if data == b"bad":
            raise DataError("the image: cannot be read as an image")
        return {"label": "cat"}

    def send(
        self, path: str, method: str = "GET", body: Any = None, **headers: str
    ) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(self.address, timeout=60)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, {"Cookie": self.cookie, "Connection": "close"} | given)
        return connection.getresponse()

    def told(self, path: str, method: str = "GET", body: Any = None, **headers: str) -> tuple[int, str]:
        with self.send(path, method, body, **headers) as answer:
            return answer.status, answer.read().decode()


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served(free_address())
    with served.page:
        yield served
        served.goes_on.set()


def test_the_address_with_the_token_leads_to_the_page_without_it(served: Served) -> None:
    with served.send(f"/?token={served.token}", Cookie="") as answer:
        answer.read()
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith(served.cookie)
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    status, page = served.told("/")
    assert status == 200
    assert "airmoe monitor" in page


@pytest.mark.parametrize("path", ["/", "/page.js", "/page.css", "/about", "/looks", "/nothing"])
@pytest.mark.parametrize("cookie", ["", "airmoe-1=x", "{name}=", "{name}=wrong", "{name}=\u00e4"])
def test_without_the_token_nothing_is_told(served: Served, path: str, cookie: str) -> None:
    name = served.cookie.partition("=")[0]
    status, text = served.told(path, Cookie=cookie.format(name=name))
    assert (status, text) == (403, "expected the address that airmoe monitor printed, with its token\n")
    assert served.told("/?token=wrong", Cookie="")[0] == 403


def test_the_token_in_another_address_is_none(served: Served) -> None:
    assert served.told(f"/about?token={served.token}", Cookie="")[0] == 403


def test_a_token_is_as_long_as_a_key(served: Served) -> None:
    assert len(served.token) == 32


def test_only_a_host_that_is_this_machine_is_answered(served: Served) -> None:
    for host in ("localhost", "127.0.0.1", "localhost:9999", "[::1]:80"):
        assert served.told("/about", Host=host)[0] == 200
    for host in ("rebound.example", "127.0.0.1.example", "10.0.0.1", ""):
        status, text = served.told("/about", Host=host)
        assert (status, text) == (421, f"host is {host!r}; expected this machine\n")


def test_another_page_gets_nothing_and_asks_nothing(served: Served) -> None:
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", f"https://{served.address}"):
        assert served.told("/ask", "POST", b"x", Origin=origin) == (403, "the request is of another page\n")
    assert not served.asked
    assert served.told("/ask", "POST", b"x", Origin=f"http://{served.address}")[0] == 200


def test_whatever_is_answered_has_headers_that_keep_others_out(served: Served) -> None:
    for path, cookie in (("/", served.cookie), ("/nothing", served.cookie), ("/", "")):
        with served.send(path, Cookie=cookie) as answer:
            headers = answer.headers
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "Server" not in headers


def test_the_page_needs_nothing_from_elsewhere(served: Served) -> None:
    for path in ("/", "/page.css", "/page.js"):
        status, text = served.told(path)
        assert status == 200
        assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)\S+", text) == []
        assert "innerHTML" not in text


def looks_of(answer: http.client.HTTPResponse) -> dict[str, Any]:
    """The next look of a stream."""
    line = answer.readline()
    assert answer.readline() == b"\n"
    return dict(json.loads(line.removeprefix(b"data: ")))


def test_each_new_look_comes_once(served: Served) -> None:
    from airmoe.monitor.page import NEWS_S

    answer = served.send("/looks")
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert looks_of(answer) == json.loads(json.dumps(asdict(LOOK)))
    time.sleep(3 * NEWS_S)
    served.number = 1
    assert looks_of(answer)["at_s"] == LOOK.at_s + 1
    answer.close()


def test_one_browser_too_many_is_told_so_until_another_leaves(served: Served) -> None:
    from airmoe.monitor.page import MOST_VIEWERS

    watching = [served.send("/looks") for _ in range(MOST_VIEWERS)]
    for each in watching:
        looks_of(each)
    assert served.told("/looks") == (200, f"event: full\ndata: {MOST_VIEWERS}\n\n")
    watching.pop().close()

    def is_free() -> bool:
        with served.send("/looks") as answer:
            return answer.readline().startswith(b"data: ")

    wait_until(is_free, 60)
    for each in watching:
        each.close()


def test_too_long_a_policy_is_not_read(served: Served) -> None:
    status, text = served.told("/ask?policy=" + "x" * 101, "POST", b"image")
    assert (status, json.loads(text)) == (
        422,
        {"error": "the policy has 101 characters; expected at most 100"},
    )
    assert not served.asked


def test_whoever_leaves_during_an_upload_makes_no_line(
    served: Served, capfd: pytest.CaptureFixture[str]
) -> None:
    host, port = served.address.split(":")
    head = (
        f"POST /ask HTTP/1.1\r\nHost: {host}\r\nCookie: {served.cookie}\r\nContent-Length: 1000\r\n\r\nhalf"
    )
    with socket.create_connection((host, int(port)), 60) as made:
        made.sendall(head.encode())
        time.sleep(0.2)
    assert served.told("/about")[0] == 200
    served.page.close()
    assert capfd.readouterr() == ("", "")


def test_an_image_is_asked_about_by_the_policy_that_was_named(served: Served) -> None:
    assert served.told("/ask?policy=des:0.5:2", "POST", b"image") == (200, '{"label":"cat"}')
    assert served.asked == [(b"image", "des:0.5:2")]


def test_what_is_no_image_is_refused_in_a_line(served: Served) -> None:
    status, text = served.told("/ask", "POST", b"bad")
    assert (status, json.loads(text)) == (422, {"error": "the image: cannot be read as an image"})


def test_too_large_an_image_is_refused(served: Served) -> None:
    from airmoe.monitor.page import IMAGE_BYTES

    status, text = served.told("/ask", "POST", b"x" * (IMAGE_BYTES + 1))
    assert (status, json.loads(text)) == (413, {"error": "the image has more than 16 MiB"})
    assert not served.asked


def test_one_image_is_asked_about_at_once(served: Served) -> None:
    served.goes_on.clear()
    first = threading.Thread(target=served.told, args=("/ask", "POST", b"first"))
    first.start()
    wait_until(lambda: bool(served.asked), 60)
    assert served.told("/ask", "POST", b"second")[0] == 429
    assert served.told("/about")[0] == 200, "others are answered meanwhile"
    served.goes_on.set()
    first.join()
    assert served.told("/ask", "POST", b"third")[0] == 200


def test_a_mesh_that_cannot_be_asked_says_so() -> None:
    from airmoe.monitor.page import Page

    served = Served(free_address())
    served.page.close()
    address = free_address()
    with Page({}, lambda: (0, LOOK), None, address) as page:
        served.address, served.cookie = address, f"airmoe-{address[10:]}={page.url.rpartition('=')[2]}"
        assert json.loads(served.told("/about")[1]) == {"asks": False}
        assert served.told("/ask", "POST", b"x")[0] == 404


@pytest.mark.parametrize("address", ["0.0.0.0:8470", "10.0.0.1:8470", "127.0.0.1", "example.org:80"])
def test_the_page_is_on_this_machine_alone(address: str) -> None:
    from airmoe.monitor.page import Page

    with pytest.raises(AddressError, match="expected"):
        Page({}, lambda: (0, LOOK), None, address)


def test_an_address_in_use_is_refused(served: Served) -> None:
    from airmoe.monitor.page import Page

    with pytest.raises(AddressError, match=f"cannot listen on {served.address}: Address already in use"):
        Page({}, lambda: (0, LOOK), None, served.address)


def test_it_leaves_the_signals_of_its_process_alone(served: Served) -> None:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_closing_ends_the_stream_of_whoever_watches(
    served: Served, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = served.send("/looks")
    looks_of(answer)
    served.page.close()
    answer.close()
    with pytest.raises((OSError, http.client.HTTPException)):
        served.send("/about")
    served.page.close()
    assert capfd.readouterr() == ("", "")
