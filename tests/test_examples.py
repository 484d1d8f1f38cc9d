"""Every example runs as its reader runs it, stays short, and prints what an independent calculation gives.

Shape suffixes: T items, E experts, N nodes, M subcarriers, L directed links.
"""

import ast
import itertools
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from airmoe.links import Ofdma
from airmoe.scheduling import Slot

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
TESTED = {
    "huggingface_mesh",
    "huggingface_nodes",
    "joint_schedule",
    "own_carrier",
    "own_channel",
    "own_images",
    "own_policy",
}
TOLERANCE = 1e-3  # joules are printed with five digits


def printed(name: str, *arguments: str) -> list[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONWARNINGS"}
    ended = subprocess.run(
        [sys.executable, f"examples/{name}.py", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "Warning" not in ended.stderr
    return ended.stdout.splitlines()


def variables(name: str) -> dict[str, Any]:
    with torch.random.fork_rng(devices=[]):
        return runpy.run_path(str(ROOT / "examples" / f"{name}.py"))


def lines_of_code(source: str) -> int:
    """Lines that hold code: no docstrings, comments or blank lines."""
    tree = ast.parse(source)
    documented = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node)
    ]
    docstrings: set[int] = set()
    for node in documented:
        text = node.body[0]
        docstrings |= set(range(text.lineno, (text.end_lineno or text.lineno) + 1))
    lines = enumerate(source.splitlines(), start=1)
    return sum(n not in docstrings and bool(s.strip()) and not s.strip().startswith("#") for n, s in lines)


def test_lines_of_code_are_counted_without_docstrings_comments_and_blank_lines() -> None:
    assert lines_of_code('"""Two\nlines."""\n\n# why\nx = 1\n\ndef f():\n    """Say."""\n    return x\n') == 3


def test_every_example_is_tested_here() -> None:
    assert {path.stem for path in EXAMPLES} == TESTED


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_says_what_it_shows_in_few_lines(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(source))
    assert lines_of_code(source) < 20


def macro_f1_printed(lines: list[str]) -> float:
    assert len(lines) == 1
    match = re.fullmatch(r"macro-F1 (\d\.\d{3})", lines[0])
    assert match, lines
    return float(match[1])


@pytest.mark.long
def test_own_images_learns_ten_kinds_of_digits() -> None:
    # Chance is 0.1; a single client of three knows two thirds of the classes.
    assert 0.9 < macro_f1_printed(printed("own_images")) <= 1.0


@pytest.mark.long
def test_own_images_takes_a_folder_of_ones_own(tmp_path: Path) -> None:
    from PIL import Image

    random = np.random.default_rng(0)
    for label, brightness in (("dark", 40), ("light", 200), ("white", 250)):
        (tmp_path / label).mkdir()
        for number in range(20):
            pixels_HW = random.integers(brightness - 20, brightness + 6, size=(32, 32), dtype=np.uint8)
            Image.fromarray(pixels_HW).save(tmp_path / label / f"{number}.png")
    macro_f1_printed(printed("own_images", str(tmp_path)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dark", "light", "white"]


def cheapest_subcarriers(energy_per_bit_NNM: np.ndarray) -> np.ndarray:
    """The least-energy assignment of one subcarrier to each link, by trying all of them."""
    nodes, _, subcarriers = energy_per_bit_NNM.shape
    links = list(itertools.permutations(range(nodes), 2))
    permutation_XL = np.array(list(itertools.permutations(range(subcarriers), len(links))))
    cost_LM = np.stack([energy_per_bit_NNM[link] for link in links])
    best_L = permutation_XL[cost_LM[np.arange(len(links)), permutation_XL].sum(axis=1).argmin()]
    price_NN = np.zeros((nodes, nodes))
    for link, subcarrier in zip(links, best_L, strict=True):
        price_NN[link] = energy_per_bit_NNM[(*link, subcarrier)]
    return price_NN


def test_own_channel_prints_the_cheapest_experts_that_suffice() -> None:
    example = variables("own_channel")
    # By the formulas: r = B0 log2(1 + H P0 / N0), a bit costs P0 / r; 400 float32 features and a 32-bit norm.
    rate_bps_NNM = 1e6 * np.log2(1 + example["gain_NNM"] * 1e-2 / 3.98e-15)
    price_NN = (400 * 32 + 32) * cheapest_subcarriers(1e-2 / rate_bps_NNM)
    lines = printed("own_channel")
    assert len(lines) == 4
    for item, (line, source, scores_E) in enumerate(
        zip(lines, (0, 0, 1, 2), example["scores_TE"], strict=True)
    ):
        match = re.fullmatch(rf"item {item} at node {source}: experts ([\d, ]+): (\S+) J", line)
        assert match, line
        sets = [s for size in (1, 2) for s in itertools.combinations(range(3), size)]
        enough = [s for s in sets if scores_E[list(s)].sum() >= 0.6 - 1e-9]
        cheapest = min(enough, key=lambda experts: price_NN[source, list(experts)].sum())
        assert tuple(map(int, match[1].split(", "))) == cheapest
        assert float(match[2]) == pytest.approx(price_NN[source, list(cheapest)].sum(), rel=TOLERANCE)


def test_joint_schedule_prints_energies_that_its_choices_cost() -> None:
    alone, joint, subcarrier = printed("joint_schedule")
    example = variables("joint_schedule")
    plan, slot = example["plan"], example["slot"]
    # By the formulas: r = B0 log2(1 + H P0 / N0), a bit costs P0 / r.
    joules_NNM = 65536 * 1e-2 / (1e6 * np.log2(1 + slot.links.gain_NNM * 1e-2 / 3.98e-15))
    spent = 0.0
    for item, expert in zip(*np.nonzero(plan.selection.mask), strict=True):
        link = (slot.source_T[item], expert)
        spent += 0.0 if link[0] == link[1] else joules_NNM[(*link, plan.subcarrier[link])]
    match = re.fullmatch(r"with subcarriers: (\S+) J, at most (\S+)% above the optimum", joint)
    assert match
    assert float(match[1]) == pytest.approx(spent, rel=1e-5)
    assert 0 <= float(match[2]) < 1
    assert spent < float(alone.split()[2])
    assert subcarrier.endswith(f": {plan.subcarrier[0, 1]}")


def test_own_policy_pays_the_cheapest_good_expert_and_less_than_top_1() -> None:
    lines = printed("own_policy")
    joules = dict(re.fullmatch(r"(\S+): (\S+) J", line).groups() for line in lines)  # type: ignore[union-attr]
    example = variables("own_policy")
    model, source_T = example["model"], example["source_T"]
    with torch.no_grad():
        output = model(example["images_TCHW"], source_T)
        payload_T = model.extractor(example["images_TCHW"])
    scores_TE = output.scores_TE.numpy()
    carrier = example["carrier"]
    bits_T = np.full(len(source_T), float(carrier.payload_bits(payload_T)))
    price = carrier.price(payload_T, Slot(source_T, np.arange(4), bits_T=bits_T))
    price_j_TE = price.quoted.energy_j_TE
    good_TE = scores_TE >= scores_TE.max(axis=1, keepdims=True) / 2
    cheapest_j = np.where(good_TE, price_j_TE, np.inf).min(axis=1).sum()
    best_j = price_j_TE[np.arange(len(scores_TE)), scores_TE.argmax(axis=1)].sum()
    assert list(joules) == ["topk:1", "cheapest-good"]
    assert float(joules["cheapest-good"]) == pytest.approx(cheapest_j, rel=TOLERANCE)
    assert float(joules["topk:1"]) == pytest.approx(best_j, rel=TOLERANCE)
    assert cheapest_j < best_j


def test_own_carrier_records_what_the_dispatch_charges() -> None:
    transfer, whole = printed("own_carrier")
    pairs, busy_ms = re.fullmatch(r"(\d+) pairs, (\S+) ms on the air", transfer).groups()  # type: ignore[union-attr]
    assert int(pairs) == 64 * 2
    dispatched = variables("own_carrier")["answer"].dispatched
    assert float(busy_ms) == pytest.approx(dispatched.airtime_s_T.sum() * 1e3, rel=TOLERANCE)
    assert float(busy_ms) == pytest.approx(dispatched.energy_j_T.sum() / Ofdma().power_w * 1e3, rel=TOLERANCE)
    assert whole == f"{busy_ms} ms in all"


@pytest.mark.long
def test_huggingface_nodes_prints_what_the_asked_experts_cost_both_ways() -> None:
    pytest.importorskip("transformers")
    used = variables("huggingface_nodes")
    carrier, (*_, done_jesa) = used["carrier"], used["nodes"].layers
    lines = printed("huggingface_nodes")
    spent_mj = {line.partition(": ")[0]: float(line.split()[-2]) for line in lines}
    assert spent_mj["jesa:0.7:2"] <= spent_mj["des:0.7:2"] < 0.8 * spent_mj["topk:2"]
    assert spent_mj["jesa:0.7:2"] == pytest.approx(used["nodes"].energy_j * 1e3, rel=TOLERANCE)
    # Top-2 again, without the library's dispatch: its own routers, and the links' prices.
    model, bits = used["model"], 64 * 32 + 32
    there_NN = carrier.links.energy_per_bit_j(carrier._price.subcarrier_NN)
    both_ways_N = there_NN[0] + there_NN[:, 0]
    energy_j = 0.0

    def add(router: Any, inputs: Any, said: Any) -> None:
        nonlocal energy_j
        energy_j += bits * both_ways_N[said[2].numpy() // 2].sum()

    for layer in model.model.layers:
        layer.mlp.gate.register_forward_hook(add)
    model.generate(used["prompt"], max_new_tokens=20, do_sample=False, pad_token_id=0)
    assert spent_mj["topk:2"] == pytest.approx(energy_j * 1e3, rel=TOLERANCE)
    assert len(done_jesa.done) == 20


@pytest.mark.long
def test_huggingface_mesh_writes_on_without_the_node_that_was_killed() -> None:
    (line,) = printed("huggingface_mesh")
    assert line == "the same text as without nodes: True"
