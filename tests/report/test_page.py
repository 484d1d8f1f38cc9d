"""The report: one file, opened offline in a real browser."""

import base64
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from airmoe.report import write_report
from tests.report.conftest import made_up_comparison, made_up_results

chromium = pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium on PATH")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "run"
    write_report(made_up_results(), folder)
    return folder


@pytest.fixture(scope="module")
def analog_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "analog"
    write_report(made_up_results(made_up_comparison()), folder)
    return folder


@pytest.fixture
def page(run: Path) -> str:
    return (run / "report.html").read_text(encoding="utf-8")


def test_it_writes_the_page_and_the_figures(run: Path) -> None:
    files = [p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file()]
    assert sorted(files) == [
        "figures/answers-around-kills.svg",
        "figures/f1-against-energy.svg",
        "figures/training-curves.svg",
        "figures/who-asks-whom.svg",
        "report.html",
    ]


def test_the_same_results_give_the_same_page(tmp_path: Path, page: str) -> None:
    write_report(made_up_results(), tmp_path / "again")
    assert (tmp_path / "again" / "report.html").read_text(encoding="utf-8") == page


def test_the_figures_in_the_page_are_the_files_beside_it(run: Path, page: str) -> None:
    inside = {
        base64.b64decode(data) for data in re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    }
    assert inside == {path.read_bytes() for path in (run / "figures").iterdir()}


def test_every_place_of_the_template_is_filled(page: str, analog_run: Path) -> None:
    assert "$" not in page
    assert "$" not in (analog_run / "report.html").read_text(encoding="utf-8")


def test_a_comparison_over_analog_links_is_one_section_and_one_figure_more(
    run: Path, analog_run: Path, page: str
) -> None:
    figures = [{path.name for path in (folder / "figures").iterdir()} for folder in (run, analog_run)]
    assert figures[1] - figures[0] == {"over-analog-links.svg"}
    with_analog = (analog_run / "report.html").read_text(encoding="utf-8")
    (section,) = re.findall(r"  <section>\s*<h2>Over analog links: .*?</section>\n\n", with_analog, re.DOTALL)
    assert with_analog.replace(section, "") == page
    for words in ("own, -5 dB on average", "differ by at most 3e-07", "<td>0.912</td>"):
        assert words in section
    (figure,) = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', section)
    assert base64.b64decode(figure) == (analog_run / "figures" / "over-analog-links.svg").read_bytes()


def test_names_are_text_and_never_markup(page: str) -> None:
    assert "folder:&lt;birds &amp; bees&gt;" in page
    assert "<birds" not in page


@pytest.mark.parametrize(
    "words",
    [
        "<b>0.951</b><span>macro-F1 of the networked MoE",
        "<b>0.235</b><span>if each client used its own expert only",
        "<b>1.97 ms</b>",
        "p99 9.85 ms; 17.9 µJ",
        "<b>0</b><span>of 240 queries failed while nodes 1 and 3 died; 1 degraded",
        "differ by at most\n    2e-07",
        "0.951 with every node alive,\n    0.912 once both are dead",
        "<td>train the networked MoE</td><td>4.0 s</td>",
        "<td>features</td><td>1,234,567 bytes</td>",
        "A node process takes 73 MB at most",
        "120 of 450 held-out images",
    ],
)
def test_the_page_says_what_was_measured(page: str, words: str) -> None:
    assert words in page


MEASURE = """
<script>
addEventListener("load", () => {
  const wide = [...document.images].map(image => image.complete ? image.naturalWidth : 0);
  const root = document.documentElement;
  document.title = "images " + wide.join(",") + " page " + root.scrollWidth + " of " + root.clientWidth;
});
</script>
"""


def seen_in_browser(page: str, folder: Path, width: int) -> tuple[list[int], int, int]:
    """Natural widths of the images, width of the content, and width of the window, in CSS pixels.

    The page is shown in a frame, because a headless window is never narrower than 500 pixels.
    """
    (folder / "page.html").write_text(page.replace("</body>", MEASURE + "</body>"), encoding="utf-8")
    frame = (
        f'<!doctype html><iframe src="page.html" width="{width}" height="900" style="border:0"></iframe>'
        '<script>addEventListener("load", () => { document.title = document.querySelector("iframe")'
        ".contentDocument.title; });</script>"
    )
    (folder / "frame.html").write_text(frame, encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    options += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    options += ["--disable-dev-shm-usage", "--allow-file-access-from-files", "--window-size=1400,1000"]
    options += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=5000", "--dump-dom"]
    browser = subprocess.Popen(
        ["chromium", *options, (folder / "frame.html").as_uri()],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        dom, _ = browser.communicate(timeout=60)
    finally:
        browser.kill()
        browser.communicate()
    title = re.search(r"<title>images ([\d,]*) page (\d+) of (\d+)</title>", dom)
    assert title is not None, dom[:2000]
    return [int(wide) for wide in title[1].split(",")], int(title[2]), int(title[3])


@chromium
@pytest.mark.parametrize("width", [1120, 400])
def test_in_a_browser_all_images_load_and_nothing_overflows(
    tmp_path: Path, analog_run: Path, width: int
) -> None:
    analog_page = (analog_run / "report.html").read_text(encoding="utf-8")
    images, content, window = seen_in_browser(analog_page, tmp_path, width)
    assert len(images) == 5
    assert min(images) > 300
    assert width - 20 <= window <= width  # less a scroll bar
    assert content <= window


@chromium
def test_the_browser_would_notice_a_broken_image_and_an_overflow(tmp_path: Path, page: str) -> None:
    broken = page.replace("base64,PD94", "base64,AAAA", 1).replace("<h1>", '<h1 style="width:1500px">', 1)
    images, content, window = seen_in_browser(broken, tmp_path, 1120)
    assert images.count(0) == 1
    assert content > window
