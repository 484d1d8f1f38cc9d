"""The page that shows a mesh while it works, for browsers on this machine that have the token."""

import asyncio
import hmac
import json
import secrets
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import asdict
from importlib.resources import files
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from airmoe.errors import AddressError, AirmoeError
from airmoe.mesh.addresses import parse_address
from airmoe.mesh.ending import ends_with_process, needs_no_wait
from airmoe.mesh.loopback import is_this_machine
from airmoe.monitor.look import Look

IMAGE_BYTES = 16 << 20
"""The most bytes of an image that is dropped on the page."""

POLICY_LENGTH = 100
"""The longest text of a policy that is read."""

MOST_VIEWERS = 8
"""How many browsers see the mesh at once."""

MOST_CONNECTIONS = 64
"""How many connections are answered at once; whoever comes over one more is told to come again."""

NEWS_S = 0.25
"""How often it is seen whether there is a new look."""

_KINDS = {"page.html": "text/html", "page.css": "text/css", "page.js": "text/javascript"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

Latest = Callable[[], tuple[int, Look]]
Ask = Callable[[bytes, str], dict[str, Any]]


class Page:
    """Serves the page until closed.

    Args:
        about: what the page says of the mesh, and does not change.
        latest: returns the latest look and its number.
        ask: an image file's bytes and a policy's text to what the mesh answers, as JSON has it; None where
            the mesh cannot be asked about images.
        listen: loopback HOST:PORT.

    Raises:
        AddressError: malformed, not loopback, or in use.

    Attributes:
        url: where the page is, with the token.
    """

    def __init__(self, about: dict[str, Any], latest: Latest, ask: Ask | None, listen: str) -> None:
        self._about, self._latest, self._ask = about, latest, ask
        self._token, self._asking, self._viewers = secrets.token_urlsafe(24), threading.Lock(), 0
        self._latest_encoded = -1, ""
        host, port = parse_address(listen)
        self._cookie = f"airmoe-{port}"  # browsers tell the ports of a host apart in nothing else
        self.url = f"http://{listen}/?token={self._token}"
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
            self._socket.listen(MOST_CONNECTIONS)  # who comes before the server is there waits
        except OSError as error:
            self._socket.close()
            raise AddressError(f"cannot listen on {listen}: {error.strerror}") from None
        routes = [
            Route("/", self._page),
            Route("/page.css", self._file),
            Route("/page.js", self._file),
            Route("/favicon.ico", self._no_icon),
            Route("/about", self._tell_about),
            Route("/looks", self._looks),
            Route("/ask", self._answer, methods=["POST"]),
        ]
        config = uvicorn.Config(
            Starlette(routes=routes, middleware=[Middleware(_Guard, self._is_known, self._cookie)]),
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            ws="none",
            http="h11",  # which bounds the head of a request
            log_level="critical",
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        work, sockets = self._server.run, {"sockets": [self._socket]}
        self._thread = threading.Thread(target=work, kwargs=sockets, name="airmoe page", daemon=True)
        self._thread.start()
        ends_with_process(self._thread, self._end)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Serve no more. Closing twice does no harm."""
        self._end()
        self._thread.join()
        needs_no_wait(self._thread)

    def _end(self) -> None:
        self._server.should_exit = True

    def _is_known(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self._token.encode())

    async def _page(self, request: Request) -> Response:
        if "token" not in request.query_params:
            return _of_package("page.html")
        answer = RedirectResponse("/", 303)  # the token stays in no address bar and in no history
        answer.set_cookie(self._cookie, self._token, httponly=True, samesite="strict")
        return answer

    async def _file(self, request: Request) -> Response:
        return _of_package(request.url.path.removeprefix("/"))

    async def _no_icon(self, request: Request) -> Response:
        return Response(status_code=204)

    async def _tell_about(self, request: Request) -> Response:
        return JSONResponse({**self._about, "asks": self._ask is not None})

    async def _looks(self, request: Request) -> Response:
        return StreamingResponse(self._stream(), media_type="text/event-stream")

    async def _stream(self) -> AsyncIterator[str]:
        if self._viewers >= MOST_VIEWERS:
            yield f"event: full\ndata: {MOST_VIEWERS}\n\n"
            return
        self._viewers += 1
        try:
            seen = -1
            while not self._server.should_exit:
                number, look = self._latest()
                if number != seen:
                    seen = number
                    yield f"data: {self._encoded(number, look)}\n\n"
                await asyncio.sleep(NEWS_S)
        finally:
            self._viewers -= 1

    def _encoded(self, number: int, look: Look) -> str:
        """Return a look as JSON, encoded once for all who watch."""
        if self._latest_encoded[0] != number:
            text = json.dumps(asdict(look), separators=(",", ":"), allow_nan=False)
            self._latest_encoded = number, text
        return self._latest_encoded[1]

    async def _answer(self, request: Request) -> Response:
        if self._ask is None:
            return _refused("this mesh cannot be asked about images", 404)
        policy = request.query_params.get("policy", "")
        if len(policy) > POLICY_LENGTH:
            return _refused(f"the policy has {len(policy)} characters; expected at most {POLICY_LENGTH}", 422)
        data = await _body(request)
        if data is None:
            return _refused(f"the image has more than {IMAGE_BYTES >> 20} MiB", 413)
        if not self._asking.acquire(blocking=False):
            return _refused("another image is being asked about", 429)
        try:
            return JSONResponse(await run_in_threadpool(self._ask, data, policy))
        except AirmoeError as error:
            return _refused(str(error), 422)
        finally:
            self._asking.release()


async def _body(request: Request) -> bytes | None:
    """Return what a request brings; None where that is too much. Of one who left, what had come."""
    data = bytearray()
    with suppress(ClientDisconnect):
        async for piece in request.stream():
            data += piece
            if len(data) > IMAGE_BYTES:
                return None
    return bytes(data)


def _refused(why: str, status: int) -> Response:
    return JSONResponse({"error": why}, status)


def _of_package(name: str) -> Response:
    data = files("airmoe.monitor").joinpath("static", name).read_bytes()
    return Response(data, media_type=_KINDS[name])


class _Guard:
    """Lets through what comes from this machine, from the page itself, with the token.

    Args:
        app: what is guarded.
        is_known: whether a token is right.
        cookie: the name of the cookie that has it.
    """

    def __init__(self, app: ASGIApp, is_known: Callable[[str], bool], cookie: str) -> None:
        self._app, self._is_known, self._cookie = app, is_known, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or have the page answer with headers that keep others out."""

        async def send_guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                told = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *told]}
            await send(message)

        request = Request(scope)
        refused = self._why_not(request)
        app = self._app if refused is None else refused
        await app(scope, receive, send_guarded)

    def _why_not(self, request: Request) -> Response | None:
        host = request.headers.get("host", "").lower()
        if not is_this_machine(host):
            return PlainTextResponse(f"host is {host!r}; expected this machine\n", 421)
        origin = request.headers.get("origin")
        if origin is not None and origin.lower() != f"http://{host}":
            return PlainTextResponse("the request is of another page\n", 403)
        token = request.query_params.get("token") if request.url.path == "/" else None
        if self._is_known(token or request.cookies.get(self._cookie, "")):
            return None
        return PlainTextResponse("expected the address that airmoe monitor printed, with its token\n", 403)
