"""Public objects show themselves in one line; some are a picture in a notebook."""

import base64
import importlib
import inspect
import io
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from airmoe.data import ImageSet
from airmoe.links import Links, LinkSnr, Ofdma
from airmoe.mesh import Answer
from airmoe.networked import NetworkedConfig
from airmoe.networked.config import parse_config
from airmoe.nn import MoeOutput, build_model
from airmoe.runs import Comparison, Measured
from airmoe.scheduling import Cost, Plan, Routing, Selection, Slot, schedule_layer, select_experts
from airmoe.showing import MOST_CELLS, OneLine, heat_map, in_short
from tests.test_manifest import manifest_of

PACKAGES = ("data", "dispatch", "links", "mesh", "networked", "channel_aware", "nn", "runs", "scheduling")


def links_of(nodes: int) -> Links:
    snr_db = np.random.default_rng(0).uniform(-5, 25, (nodes, nodes, 6))
    return Links.from_snr(snr_db, Ofdma(subcarriers=6))


def images() -> ImageSet:
    pixels_TCHW = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 8), dtype=np.uint8)
    labels_T = np.array([0, 1, 2, 0, 1, 2])
    return ImageSet("mine", pixels_TCHW, labels_T, pixels_TCHW, labels_T, ("<cat>", "dog", "newt"))


def plan() -> Plan:
    scores = np.full((4, 3), 1 / 3)
    return schedule_layer(scores, [0, 1, 2, 0], links_of(3).gain_NNM, Ofdma(subcarriers=6))


def dispatched_by(experts: int) -> MoeOutput:
    model = build_model("lenet5", classes=2, experts=experts, channels=1).eval()
    shown: MoeOutput = model(torch.zeros(6, 1, 32, 32))
    return shown


def comparison() -> Comparison:
    row = Measured("run", "ideal", "local", 0, 0.5, 0.5, 2e-6, 1e-4, 1640.0, 1.5, 0.25, 0.2, 0.0)
    policies, seeds = ("local", "all", "topk:1"), (0, 1)
    return Comparison(tuple(replace(row, policy=name, seed=seed) for name in policies for seed in seeds), ())


SHOWN: list[tuple[Callable[[], object], str]] = [
    (lambda: links_of(40), "Links(40 nodes, 6 subcarriers, best subcarriers at "),
    (lambda: select_experts(np.full((500, 8), 1 / 8), np.ones(8)), "Selection(500 items, 8 experts, "),
    (plan, "Plan(8 experts for 4 items, "),
    (images, "ImageSet('mine', 3 classes, 6 to train on, 6 held out, 3x8x8)"),
    (lambda: parse_config("[data]\nclients = 4\n", "x"), "NetworkedConfig(data="),
    (NetworkedConfig, "NetworkedConfig()"),
    (lambda: Cost(np.ones((300, 9))), "Cost(energy_j_TE=float64 (300, 9), "),
    (lambda: LinkSnr(np.ones((300, 9))), "LinkSnr(true_db_TE=float64 (300, 9), "),
    (lambda: Slot(source_T=[0] * 99, placement=range(50)), "Slot(source_T=int64 (99,), "),
    (
        lambda: dispatched_by(4).dispatched,
        "Dispatched(6 items, 4 experts, decided by topk:1: 6 pairs asked, ",
    ),
    (lambda: dispatched_by(4), "MoeOutput(y_TC=float32 (6, 2), "),
    (comparison, "Comparison(6 rows: 3 policies, 1 links, 2 seeds; 0 impossible)"),
    (
        lambda: manifest_of(nodes=100),
        "Manifest(mesh='lab', model_hash='0123456789abcdef', node=1, nodes=100)",
    ),
    (lambda: str(manifest_of()), "\"mesh='lab' model_hash="),
    (lambda: manifest_of().layer(1), "LayerSpec(layer=1, payload=[400], output="),
    (lambda: build_model("lenet5", classes=10, experts=10), "MixtureOfExperts("),
]


@pytest.mark.parametrize(("make", "beginning"), SHOWN, ids=[beginning for _, beginning in SHOWN])
def test_a_public_object_is_one_short_line(make: Callable[[], object], beginning: str) -> None:
    shown = repr(make())
    assert shown.startswith(beginning)
    assert "\n" not in shown
    assert "array(" not in shown
    assert "tensor(" not in shown
    assert len(shown) < 250


def with_arrays() -> Iterator[type]:
    """Every public dataclass that has an array or a tensor."""
    for package in PACKAGES:
        module = importlib.import_module(f"airmoe.{package}")
        for name in module.__all__:
            public = getattr(module, name)
            if inspect.isclass(public) and is_dataclass(public):
                annotations = " ".join(str(field.type) for field in fields(public) if field.repr)
                if any(word in annotations for word in ("NDArray", "ndarray", "Tensor")):
                    yield public


def test_every_public_dataclass_with_arrays_shows_none_of_them() -> None:
    found = set(with_arrays())
    assert found >= {ImageSet, Links, Plan, Routing, Selection, Answer}
    generated = {public for public in found if public.__dataclass_params__.repr}  # type: ignore[attr-defined]
    assert generated == set()


@dataclass(repr=False)
class Holds(OneLine):
    value: Any


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (np.zeros((2, 3), np.int64), "int64 (2, 3)"),
        (torch.zeros(4), "float32 (4,)"),
        (np.float64(2.0), "np.float64(2.0)"),
        ((1, 2), "(1, 2)"),
        ([np.zeros(2)], "[float64 (2,)]"),
        (tuple(range(99)), "tuple of 99"),
        ({"a": 1}, "dict of 1"),
        ("x" * 500, f"'{'x' * 55} ..."),
        ("line\nbreak", r"'line\nbreak'"),
        (Holds(np.zeros(2)), "Holds(value=float64 (2,))"),
        (None, "None"),
    ],
)
def test_a_value_is_shown_in_short(value: object, shown: str) -> None:
    assert in_short(value) == shown
    assert repr(Holds(value)) == f"Holds(value={shown})"


def cells(svg: str) -> list[tuple[str, str, str]]:
    """Fill and tooltip of every square, in order of rows."""
    root = ET.fromstring(svg)
    space = "{http://www.w3.org/2000/svg}"
    return [
        (str(rect.get("fill")), str(rect.findtext(f"{space}title")), str(rect.get("x")))
        for rect in root.iter(f"{space}rect")
    ]


def test_links_are_a_heat_map_of_snr_in_a_notebook() -> None:
    links = Links.from_snr([[0.0, 3.0, 9.0], [20.0, 0.0, 9.0], [-5.0, 1.0, 0.0]], Ofdma(subcarriers=2))
    squares = cells(links._repr_html_())
    tips = [tip for _, tip, _ in squares]
    assert len(squares) == 9
    assert tips[1] == "link 0 to 1: 3.0 dB"
    assert tips[3] == "link 1 to 0: 20.0 dB"
    fills = [fill for fill, _, _ in squares]
    assert [fills[node] for node in (0, 4, 8)] == ["none"] * 3
    assert fills[2] == fills[5]
    assert len({fills[1], fills[2], fills[3], fills[6]}) == 4


def test_a_plan_is_a_map_of_subcarriers_in_a_notebook() -> None:
    made = plan()
    squares = cells(made._repr_html_())
    for (fill, tip, _), given in zip(squares, made.subcarrier.ravel(), strict=True):
        assert tip.endswith("none" if given < 0 else f"subcarrier {given}")
        assert (fill == "none") == (given < 0)


def test_what_is_too_large_to_draw_is_its_line() -> None:
    links = links_of(MOST_CELLS + 1)
    assert links._repr_html_() == f"<code>{links!r}</code>"


def test_an_image_set_is_a_sample_of_each_class_in_a_notebook() -> None:
    shown = images()
    drawn = ET.fromstring(f"<div>{shown._repr_html_()}</div>")
    assert [caption.text for caption in drawn.iter("figcaption")] == ["<cat>", "dog", "newt"]
    for label, image in enumerate(drawn.iter("img")):
        raw = base64.b64decode(str(image.get("src")).removeprefix("data:image/png;base64,"))
        pixels_HWC = np.asarray(Image.open(io.BytesIO(raw)))
        assert np.array_equal(pixels_HWC, shown.train_images[label].transpose(1, 2, 0))


def test_what_a_heat_map_says_is_escaped() -> None:
    svg = heat_map(np.array([[1.0]]), "<b>", lambda row, column: "a & b")
    assert cells(svg)[0][1] == "a & b"
    assert "&lt;b&gt;" in svg


def test_a_heat_map_of_equal_or_no_entries_can_be_drawn() -> None:
    for entries in (np.ones((2, 2)), np.full((2, 2), np.nan), np.array([[-np.inf, 1.0]])):
        assert len(cells(heat_map(entries, "x", lambda row, column: ""))) == entries.size
