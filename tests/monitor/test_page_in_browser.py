"""The page in a real browser, of a real mesh: nodes 1 to 3 of four, seen from node 0."""

import io
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from airmoe.data import ImageSet
from airmoe.mesh import MeshClient, Node
from airmoe.runfolder import client_folders
from tests.mesh.ports import free_address
from tests.mesh.steering import LONG_S

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FilePayload
    from playwright.sync_api import Page as Tab

pytest.importorskip("starlette", reason="needs airmoe[monitor]")
sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("there is no chromium on PATH", allow_module_level=True)

LONG_MS = 1e3 * LONG_S


class Shown(NamedTuple):
    """A mesh, and where it is shown."""

    nodes: dict[int, Node]
    client: MeshClient
    url: str
    seed: str


@pytest.fixture(scope="module")
def folders(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Clients whose classes have names that a browser must not take for anything but text."""
    copy = tmp_path_factory.mktemp("shown") / "run"
    shutil.copytree(run_folder, copy, ignore=shutil.ignore_patterns("identities"))
    for manifest in copy.glob("clients/*/manifest.json"):
        text = manifest.read_text(encoding="utf-8")
        assert '"3"' in text
        manifest.write_text(text.replace('"3"', '"<img src=x onerror=alert(1)>"'), encoding="utf-8")
    return client_folders(copy)


@pytest.fixture(scope="module")
def shown(folders: list[Path]) -> Iterator[Shown]:
    from airmoe.monitor.asking import ask_by
    from airmoe.monitor.page import Page
    from airmoe.monitor.watcher import Watcher

    seed = free_address()
    with ExitStack() as open_:
        nodes = {
            number: open_.enter_context(Node(folders[number], free_address() if number > 1 else seed, [seed]))
            for number in (1, 2, 3)
        }
        client = MeshClient(folders[0], [seed], hedge_s=LONG_S, listen=free_address())
        open_.enter_context(client)
        client.wait_for_nodes(3, LONG_S)
        about = {
            "mesh": client.manifest.mesh,
            "model": client.manifest.model_hash,
            "node": 0,
            "policy": "topk:1",
            "secured": "unauthenticated",
            "version": "1",
        }
        watcher = open_.enter_context(Watcher(client.mesh))
        page = open_.enter_context(Page(about, watcher.latest, ask_by(client), free_address()))
        yield Shown(nodes, client, page.url, seed)


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(browser: "Browser", shown: Shown, **options: Any) -> "Tab":
    """The page, once it shows all nodes; an error in it, or on its console, fails the test."""
    tab = browser.new_page(**options)
    tab.set_default_timeout(LONG_MS)
    tab.on("console", lambda message: pytest.fail(f"the console says: {message.text}"))
    tab.on("pageerror", lambda error: pytest.fail(f"the page fails: {error}"))
    tab.goto(shown.url)
    tab.wait_for_selector("#nodes tr:nth-child(4)")
    tab.wait_for_selector("#ask:visible")
    return tab


@pytest.fixture
def tab(browser: "Browser", shown: Shown) -> Iterator["Tab"]:
    tab = opened(browser, shown, viewport={"width": 1280, "height": 900})
    yield tab
    tab.close()


@pytest.fixture(scope="module")
def digit(digits: ImageSet) -> "FilePayload":
    """A digit as a file that somebody chooses."""
    buffer = io.BytesIO()
    Image.fromarray(np.kron(digits.test_images[0][0], np.ones((8, 8), np.uint8))).save(buffer, "PNG")
    return as_file(buffer.getvalue())


def as_file(data: bytes) -> "FilePayload":
    return {"name": "digit.png", "mimeType": "image/png", "buffer": data}


def test_the_token_is_not_in_the_address(tab: "Tab") -> None:
    assert "token" not in tab.url
    assert tab.evaluate("document.cookie") == "", "no script sees it"


def test_it_shows_all_nodes_and_what_they_hold(tab: "Tab", shown: Shown) -> None:
    tab.wait_for_selector("text=3 of 4 nodes are well")  # nobody serves node 0
    assert tab.locator("#topology .node").count() == 4
    assert tab.locator("#topology .node.gone text >> nth=0").text_content() == "0"
    assert shown.client.manifest.mesh in tab.title()


def test_what_nodes_say_is_text_and_never_markup(tab: "Tab") -> None:
    assert "<img src=x onerror=alert(1)>" in tab.locator("#nodes").inner_text()
    assert tab.locator("img").count() == 0


def test_an_image_is_answered_with_who_and_at_what_price(tab: "Tab", digit: "FilePayload") -> None:
    tab.fill("#policy", "topk:2")
    tab.set_input_files("#file", [digit])
    tab.wait_for_selector("#answer ol")
    told = tab.locator("#answer").inner_text()
    assert "Answered by expert" in told
    assert "J, " in told
    assert "bytes" in told
    assert "Decided by topk:2" in told
    assert tab.locator("#answer li").count() == 3
    shares = [text.split()[-2] for text in tab.locator("#answer li").all_inner_texts()]
    assert shares == sorted(shares, key=float, reverse=True), "the most probable class first"
    assert 1 <= tab.locator("#topology .node.answered").count() <= 2


def test_an_image_can_be_dropped(tab: "Tab", digit: "FilePayload") -> None:
    transfer = tab.evaluate_handle(
        """bytes => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "digit.png", { type: "image/png" }));
            return transfer;
        }""",
        list(digit["buffer"]),
    )
    tab.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    tab.wait_for_selector("#answer ol")


@pytest.mark.parametrize(
    ("data", "policy", "said"),
    [
        (b"no image", "", "the image: cannot be read as an image"),
        (None, "topq:1", "policy is 'topq:1'; expected"),
    ],
    ids=["no image", "unknown policy"],
)
def test_what_cannot_be_asked_is_said(
    browser: "Browser", shown: Shown, digit: "FilePayload", data: bytes | None, policy: str, said: str
) -> None:
    tab = browser.new_page()  # whose console tells the status
    tab.set_default_timeout(LONG_MS)
    tab.goto(shown.url)
    tab.wait_for_selector("#ask:visible")
    tab.fill("#policy", policy)
    tab.set_input_files("#file", [digit if data is None else as_file(data)])
    tab.wait_for_selector("#answer .bad")
    assert said in tab.locator("#answer .bad").inner_text()
    tab.close()


def test_queries_of_another_client_are_seen(
    tab: "Tab", shown: Shown, folders: list[Path], digits: ImageSet
) -> None:
    with MeshClient(folders[3], [shown.seed], hedge_s=LONG_S) as other:
        other.wait_for_nodes(3, LONG_S)
        for _ in range(20):
            other.predict(digits.test_images[:5], policy="topk:3", deadline_s=LONG_S)
            tab.wait_for_timeout(200)
        tab.wait_for_selector("text=a client at node 3 came")
        tab.wait_for_selector("#topology .link:not(.idle)")
        words = tab.locator("#topology .link:not(.idle) title").all_text_contents()
        assert any(word.startswith("node 3 asks node") for word in words)
        assert tab.locator("#energy").inner_text().endswith("J")
        assert tab.locator("#degraded").inner_text().endswith("%")
    tab.wait_for_selector("text=a client at node 3 left")


def test_a_node_can_be_chosen_with_the_mouse_and_with_the_keyboard(tab: "Tab") -> None:
    tab.click("#topology [data-node='2']")
    assert tab.locator("#nodes tr.chosen").inner_text().startswith("2")
    tab.focus("#topology [data-node='3']")
    tab.keyboard.press("Enter")
    assert tab.locator("#nodes tr.chosen").inner_text().startswith("3")
    tab.keyboard.press("Enter")
    assert tab.locator("#nodes tr.chosen").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_it_fits_the_window_and_can_be_read(
    browser: "Browser", shown: Shown, scheme: Any, width: int
) -> None:
    tab = opened(browser, shown, viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    colours = tab.evaluate(
        """[...document.querySelectorAll("h1, h2, td, p, li span, b, footer")]
            .filter(each => each.checkVisibility() && each.innerText)
            .map(each => {
                let ground = each;
                while (getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)") {
                    ground = ground.parentElement;
                }
                return [getComputedStyle(each).color, getComputedStyle(ground).backgroundColor];
            })"""
    )
    assert len(colours) > 20
    assert min(contrast(*pair) for pair in colours) >= 4.5, "as WCAG 2.2 wants it for text"
    tab.close()


def contrast(ink: str, ground: str) -> float:
    """The contrast of two colours as WCAG 2.2 defines it."""

    def luminance(colour: str) -> float:
        parts = np.array([float(part) for part in colour[4:-1].split(",")]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((luminance(ink), luminance(ground)))
    return (high + 0.05) / (low + 0.05)


def test_a_node_that_dies_is_seen(tab: "Tab", shown: Shown) -> None:
    """Last, since the others want it."""
    shown.nodes[2].close()
    tab.wait_for_selector("#topology .node.gone[data-node='2']")
    tab.wait_for_selector("text=node 2 is gone: none of its experts is alive")
    tab.wait_for_selector("text=2 of 4 nodes are well")


def test_who_loses_the_page_is_told(browser: "Browser", folders: list[Path], shown: Shown) -> None:
    from airmoe.monitor.page import Page
    from airmoe.monitor.watcher import Watcher

    with Watcher(shown.client.mesh) as watcher, Page({}, watcher.latest, None, free_address()) as page:
        tab = browser.new_page()
        tab.goto(page.url)
        tab.wait_for_selector("#topology .node")
        assert tab.locator("#ask").is_hidden(), "a mesh that cannot be asked"
        page.close()
        tab.wait_for_selector("text=No connection: what is shown is old")
        tab.close()
