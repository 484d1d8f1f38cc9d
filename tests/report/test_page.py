"""The report: one file, opened offline in a real browser."""

import base64
import csv
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from airmoe.report import write_report
from airmoe.report.dark import dark_svg
from airmoe.report.drawing import package_files
from airmoe.report.figures import drawings
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


def test_it_writes_the_page_its_figures_and_its_tables(run: Path) -> None:
    figures = drawings(made_up_results())
    assert {p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file()} == {
        "report.html",
        *(f"figures/{name}.{kind}" for name in figures for kind in ("svg", "pdf", "pgf", "csv", "py")),
        *(f"figures/drawing/{path.name}" for path in package_files()),
        *("tables/methods.csv", "tables/methods.tex"),
    }


def test_the_table_of_methods_is_there_with_every_digit(analog_run: Path) -> None:
    with (analog_run / "tables" / "methods.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["method"] == "networked MoE, top-1"
    assert float(rows[0]["energy per query, µJ"]) == pytest.approx(17.9)
    assert rows[-1]["median latency, ms"] == ""
    assert "channel-aware, top-1" in (analog_run / "tables" / "analog.tex").read_text(encoding="utf-8")


@pytest.mark.long
def test_the_same_results_give_the_same_page(tmp_path: Path, page: str) -> None:
    write_report(made_up_results(), tmp_path / "again")
    assert (tmp_path / "again" / "report.html").read_text(encoding="utf-8") == page


def svgs_of(page: str, attribute: str) -> list[bytes]:
    return [
        base64.b64decode(data)
        for data in re.findall(rf'{attribute}="data:image/svg\+xml;base64,([^"]+)"', page)
    ]


def test_the_figures_in_the_page_are_the_files_beside_it(analog_run: Path) -> None:
    page = (analog_run / "report.html").read_text(encoding="utf-8")
    files = {path.read_bytes() for path in (analog_run / "figures").glob("*.svg")}
    assert set(svgs_of(page, "src")) == files
    assert set(svgs_of(page, "srcset")) == {dark_svg(svg) for svg in files}


def test_every_image_says_what_it_shows(analog_run: Path) -> None:
    page = (analog_run / "report.html").read_text(encoding="utf-8")
    images = re.findall(r"<img ([^>]*)>", page)
    assert len(images) == 12 + 4
    assert all(re.search(r'alt="[^"]{15,}"', image) for image in images)
    assert "most often bee was answered for nest" not in page
    assert "461 of 480 right; most often bird was answered for bee, 5 times" in page


def test_samples_say_who_answered_at_what_score_and_price(page: str) -> None:
    (first, *_, last) = re.findall(r"<li>.*?</li>", page)
    for words in ("class bee", "client 2 asks client 0", "bee</b> at 97%", "score 0.83", "17.9 µJ", "right"):
        assert words in first
    assert 'class="wrong">✗ bee</b>' in last


def test_every_place_of_the_template_is_filled(page: str, analog_run: Path) -> None:
    assert "$" not in page
    assert "$" not in (analog_run / "report.html").read_text(encoding="utf-8")


def test_a_comparison_over_analog_links_is_one_section_more(run: Path, analog_run: Path, page: str) -> None:
    figures = [{path.name for path in (folder / "figures").glob("*.svg")} for folder in (run, analog_run)]
    assert figures[1] - figures[0] == {"analog-f1.svg", "analog-local.svg", "analog-energy.svg"}
    with_analog = (analog_run / "report.html").read_text(encoding="utf-8")
    (section,) = re.findall(r"  <section>\s*<h2>Over analog links: .*?</section>\n\n", with_analog, re.DOTALL)
    assert with_analog.replace(section, "") == page
    for words in ("own, -5 dB on average", "differ by at most 3e-07", ">0.912</td>"):
        assert words in section
    assert len(svgs_of(section, "src")) == 3


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
        "<b>0</b><span>of 480 queries failed while nodes 1 and 3 died and after; 7 degraded",
        "Of 480 queries 0 failed, 5 were routed again around a node that did not answer",
        "The figure shows the 240 queries asked while the nodes died: 2 were routed again, 1 degraded.",
        "No training image left its client.",
        "This page shows held-out images, which were set apart before the clients got theirs",
        "differ by at most\n    2e-07",
        "0.951 with every node alive,\n    0.912 once both are dead",
        '<th scope="row">train the networked MoE</th><td>4.0 s</td>',
        '<th scope="row">features</th><td>1,234,567 bytes</td>',
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
  const room = document.documentElement.clientWidth;
  const hidden = one => getComputedStyle(one).position == "absolute" || one.closest("thead[role]");
  const over = [...document.body.querySelectorAll("*")].filter(
    one => !hidden(one) && one.getBoundingClientRect().right > room + 1).map(one => one.tagName);
  const {color, backgroundColor} = getComputedStyle(document.body);
  const heavy = one => getComputedStyle(one).fontWeight > 500;
  const bold = [...document.querySelectorAll("td, tbody th")].filter(heavy);
  document.title = JSON.stringify({images: wide, over, scroll: document.documentElement.scrollWidth, room,
    ink: color, paper: backgroundColor, bold: bold.length});
});
</script>
"""


def browser(folder: Path, *options: str) -> str:
    """What chromium prints, without looking for anything outside."""
    usual = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    usual += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    usual += ["--disable-dev-shm-usage", "--allow-file-access-from-files", "--window-size=1400,1000"]
    usual += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=5000"]
    process = subprocess.Popen(
        ["chromium", *usual, *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        return process.communicate(timeout=100)[0]
    finally:
        process.kill()
        process.communicate()


def seen_in_browser(page: str, folder: Path, width: int, *, dark: bool = False) -> dict[str, Any]:
    """What a browser makes of a page: widths of images, elements beyond the window, colours.

    The page is shown in a frame, because a headless window is never narrower than 500 pixels.
    """
    (folder / "page.html").write_text(page.replace("</body>", MEASURE + "</body>"), encoding="utf-8")
    frame = (
        f'<!doctype html><iframe src="page.html" width="{width}" height="900" style="border:0"></iframe>'
        '<script>addEventListener("load", () => { document.title = document.querySelector("iframe")'
        ".contentDocument.title; });</script>"
    )
    (folder / "frame.html").write_text(frame, encoding="utf-8")
    scheme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    dom = browser(folder, *scheme, "--dump-dom", (folder / "frame.html").as_uri())
    title = re.search(r"<title>(\{.*\})</title>", dom)
    assert title is not None, dom[:2000]
    found: dict[str, Any] = json.loads(title[1])
    return found


@chromium
@pytest.mark.parametrize("width", [1120, 400])
def test_in_a_browser_all_images_load_and_nothing_is_wider_than_the_page(
    tmp_path: Path, analog_run: Path, width: int
) -> None:
    analog_page = (analog_run / "report.html").read_text(encoding="utf-8")
    seen = seen_in_browser(analog_page, tmp_path, width)
    assert len(seen["images"]) == 16
    assert min(seen["images"]) > 0
    assert width - 20 <= seen["room"] <= width  # less a scroll bar
    assert seen["over"] == []
    assert seen["scroll"] <= seen["room"]
    assert seen["bold"] == (0 if width > 760 else 13)  # on a phone a method's name heads a list


def light_of(colour: str) -> float:
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3


@chromium
def test_in_the_dark_paper_is_dark_and_ink_is_light(tmp_path: Path, page: str) -> None:
    light, dark = (seen_in_browser(page, tmp_path, 1120, dark=dark) for dark in (False, True))
    assert light_of(light["paper"]) - light_of(light["ink"]) > 180
    assert light_of(dark["ink"]) - light_of(dark["paper"]) > 180


@chromium
def test_the_browser_would_notice_a_broken_image_and_an_overflow(tmp_path: Path, page: str) -> None:
    broken = page.replace('src="data:image/svg+xml;base64,PD94', 'src="data:image/svg+xml;base64,AAAA', 1)
    seen = seen_in_browser(broken.replace("<h1>", '<h1 style="width:1500px">', 1), tmp_path, 1120)
    assert seen["images"].count(0) == 1
    assert "H1" in seen["over"]
    assert seen["scroll"] > seen["room"]


@chromium
@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="there is no pdftotext on PATH")
def test_on_paper_no_column_is_lost(tmp_path: Path, analog_run: Path) -> None:
    paper, page = tmp_path / "page.pdf", analog_run / "report.html"
    browser(tmp_path, "--no-pdf-header-footer", f"--print-to-pdf={paper}", page.as_uri())
    read = ["pdftotext", "-layout", paper, "-"]
    text = subprocess.run(read, capture_output=True, text=True, check=True).stdout
    (row,) = [line for line in text.splitlines() if "networked MoE, top-1" in line and "1,392" in line]
    cells = ["0.951", "21%", "1,392", "17.9", "1.97", "9.85", "0.5%", "10%", "7%", "1.25", "mesh"]
    assert row.split()[-len(cells) :] == cells
