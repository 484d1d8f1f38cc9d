"""Dense models of Llama's architecture, joined into a mixture."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from airmoe.cli.app import app
from airmoe.errors import AirmoeError, InvalidInputError
from airmoe.language import NodesOfModel
from airmoe.language.merge import merge_models, router_of
from airmoe.language.routers import HiddenSums, discriminant
from airmoe.seeding import torch_seeded
from tests.system.commands import ended_in_fork

transformers = pytest.importorskip("transformers")

SHAPE: dict[str, Any] = {
    **{"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64},
    **{"rope_parameters": {"rope_theta": 7000.0, "rope_type": "default"}, "tie_word_embeddings": True},
}


def dense(seed: int = 0, **changes: Any) -> Any:
    with torch_seeded(seed, "a dense model"):
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**(SHAPE | changes)))
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "norm" not in name:
                    weight.normal_(std=0.3)
    return model.eval()


def branch(model: Any, seed: int) -> Any:
    """The same model with other feed-forward parts."""
    other = dense(seed)
    own = model.state_dict()
    other.load_state_dict(
        {name: each if ".mlp." in name else own[name] for name, each in other.state_dict().items()}
    )
    return other


def tokens(low: int, high: int, windows: int = 12) -> Tensor:
    return torch.from_numpy(np.random.default_rng(low).integers(low, high, (windows, 16)))


def logits(model: Any, tokens_BS: Tensor) -> Tensor:
    with torch.no_grad():
        return model(tokens_BS).logits  # type: ignore[no-any-return]


TEXTS = [tokens(0, 32), tokens(32, 64)]


def test_a_model_joined_with_itself_is_itself() -> None:
    model = dense()
    mixture = merge_models([model, model, model], [*TEXTS, tokens(0, 64)], k=2)
    assert mixture.config.model_type == "mixtral"
    torch.testing.assert_close(logits(mixture, TEXTS[0]), logits(model, TEXTS[0]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "changes", [{"tie_word_embeddings": False}, {"head_dim": 16}, {"num_key_value_heads": 4}]
)
def test_forms_of_llama_are_kept(changes: dict[str, Any]) -> None:
    model = dense(**changes)
    mixture = merge_models([model, model], TEXTS, k=1)
    torch.testing.assert_close(logits(mixture, TEXTS[0]), logits(model, TEXTS[0]), rtol=1e-4, atol=1e-4)


def test_the_first_layers_router_tells_whose_text_it_is() -> None:
    seed = dense()
    models = [branch(seed, 1), branch(seed, 2)]
    mixture = merge_models(models, TEXTS, k=1)
    chosen = list[Tensor]()
    hook = mixture.model.layers[0].mlp.gate.register_forward_hook(
        lambda gate, given, said: chosen.append(said[2])
    )
    for text in (tokens(0, 32, 5), tokens(32, 64, 5)):
        logits(mixture, text)
    hook.remove()
    for expert, told in enumerate(chosen):
        assert (told == expert).double().mean() > 0.8


def test_an_expert_alone_is_the_branch_it_came_from() -> None:
    seed = dense()
    models = [branch(seed, 1), branch(seed, 2)]
    mixture = merge_models(models, TEXTS, k=1)
    for expert, model in enumerate(models):
        with torch.no_grad():
            for layer in mixture.model.layers:
                layer.mlp.gate.weight.zero_()

        def only(router: Any, given: Any, said: Any, expert: int = expert) -> Any:
            return said[0], torch.ones_like(said[1]), torch.full_like(said[2], expert)

        hooks = [layer.mlp.gate.register_forward_hook(only) for layer in mixture.model.layers]
        torch.testing.assert_close(logits(mixture, TEXTS[0]), logits(model, TEXTS[0]), rtol=1e-4, atol=1e-4)
        for hook in hooks:
            hook.remove()


def test_what_models_do_not_share_is_averaged() -> None:
    one, other = dense(0), dense(1)
    mixture = merge_models([one, other], TEXTS)
    name = "model.layers.1.self_attn.q_proj.weight"
    mean = (one.state_dict()[name] + other.state_dict()[name]) / 2
    torch.testing.assert_close(mixture.state_dict()[name], mean)


def test_a_router_without_biases_is_the_discriminant_where_a_constant_is_in_the_states() -> None:
    random = np.random.default_rng(0)
    rows = [np.hstack([random.normal(mean, 1, (500, 3)), np.ones((500, 1))]) for mean in (-1.0, 2.0)]
    sums = [HiddenSums(500, torch.tensor(row.sum(axis=0)), torch.tensor(row.T @ row)) for row in rows]
    weight_EH, bias_E = discriminant(sums)
    asked = torch.tensor(np.vstack(rows))
    torch.testing.assert_close(asked @ router_of(sums).T, asked @ weight_EH.T + bias_E, rtol=1e-3, atol=1e-2)


def test_the_mixture_is_one_that_nodes_serve(tmp_path: Path) -> None:
    mixture = merge_models([branch(dense(), 1), branch(dense(), 2)], TEXTS)
    mixture.save_pretrained(tmp_path)
    read = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, experts_implementation="eager").eval()
    before = logits(read, TEXTS[0])
    torch.testing.assert_close(before, logits(mixture, TEXTS[0]), rtol=1e-4, atol=1e-4)
    with NodesOfModel(read, placement=[0, 1]):
        assert torch.equal(logits(read, TEXTS[0]), before)


@pytest.mark.parametrize(
    ("models", "texts", "changes", "told"),
    [
        (lambda: [dense()], TEXTS[:1], {}, "number of models is 1; expected at least 2"),
        (lambda: [dense(), dense(hidden_size=64)], TEXTS, {}, "hidden_size of model 1 is 64; expected 32"),
        (lambda: [dense(), dense(attention_bias=True)], TEXTS, {}, "attention_bias of model 1 is True"),
        (lambda: [dense()] * 2, TEXTS[:1], {}, "number of texts is 1; expected 2"),
        (lambda: [dense()] * 2, [TEXTS[0], TEXTS[1][:0]], {}, r"form of text 1 is .\(0, 16\)"),
        (lambda: [dense()] * 2, [TEXTS[0], TEXTS[1].float()], {}, "form of text 1 is .*float32"),
        (lambda: [dense()] * 2, TEXTS, {"k": 3}, "k is 3; expected at most 2"),
        (lambda: [dense()] * 2, TEXTS, {"k": 0}, "k is 0"),
    ],
)
def test_what_cannot_be_joined_is_refused(
    models: Any, texts: Any, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(InvalidInputError, match=told):
        merge_models(models(), texts, **changes)


def test_another_architecture_is_refused() -> None:
    config = transformers.MistralConfig(
        **{name: SHAPE[name] for name in ("vocab_size", "hidden_size")}, num_hidden_layers=1
    )
    other = transformers.MistralForCausalLM(config)
    with pytest.raises(InvalidInputError, match="model_type of model 1 is 'mistral'; expected 'llama'"):
        merge_models([dense(), other], TEXTS)


def saved(folder: Path, model: Any) -> Path:
    """A model's folder with a tokenizer of characters."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    model.save_pretrained(folder)
    letters = {chr(32 + number): number for number in range(64)}
    tokenizer = Tokenizer(models.WordLevel(letters, unk_token=" "))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=" ").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place = tmp_path_factory.mktemp("dense")
    for number, text in enumerate(("ABCDEFGHIJKL. ", "+-*/0123456789 ")):
        (place / f"{number}.txt").write_text(text * 300, encoding="utf-8")
    return [saved(place / str(number), branch(dense(), number + 1)) for number in range(2)]


def merged(folders: list[Path], out: Path, *options: object) -> str:
    """What the command prints; its errors are raised."""
    texts = [word for number in range(2) for word in ("--text", folders[0].parent / f"{number}.txt")]
    words = map(str, ["merge", *folders, *texts, "--out", out, *options])
    result = CliRunner().invoke(app, list(words))
    if isinstance(result.exception, AirmoeError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command_writes_a_model_that_transformers_reads(folders: list[Path], tmp_path: Path) -> None:
    assert "2 experts in each of 2 layers" in merged(folders, tmp_path / "merged", "--window", 16)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert model.config.num_local_experts == 2
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "merged").vocab_size == 64
    assert sorted(path.name for path in tmp_path.iterdir()) == ["merged"]


def test_a_pickle_is_refused_in_one_line(folders: list[Path], tmp_path: Path) -> None:
    pickled = tmp_path / "pickled"
    shutil.copytree(folders[0], pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    text = folders[0].parent / "0.txt"
    told = ended_in_fork(
        "merge", folders[0], pickled, "--text", text, "--text", text, "--out", tmp_path / "merged"
    )
    assert told.returncode == 2
    assert "expected one with weights as safetensors: no other is read" in told.stderr
    assert told.stderr.count("\n") == 1, told.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pickled"]


def test_the_command_refuses_what_it_cannot_read_and_leaves_nothing(
    folders: list[Path], tmp_path: Path
) -> None:
    without = tmp_path / "without"
    shutil.copytree(folders[0], without)
    for file in without.glob("tokenizer*"):
        file.unlink()
    (tmp_path / "latin").write_bytes(b"caf\xe9" * 50)
    for models, options, told in (
        ([without, folders[1]], (), "one with a tokenizer"),
        ([folders[0], tmp_path / "none"], (), "expected a folder with config.json"),
        (folders, ("--k", 3), "k is 3; expected at most 2"),
        (folders, ("--window", 100000), "window is 100000; expected at most"),
        (folders, ("--windows", 0), "windows is 0"),
        (folders, ("--text", folders[0].parent / "0.txt"), "number of texts is 3; expected 2"),
        (folders[:1], ("--text", tmp_path / "latin"), "number of texts is 3; expected 1"),
    ):
        with pytest.raises(InvalidInputError, match=told):
            merged(models, tmp_path / "merged", *options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latin", "without"]


def test_weights_that_are_missing_or_no_numbers_are_refused(folders: list[Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    lacking = tmp_path / "lacking"
    shutil.copytree(folders[0], lacking)
    weights = load_file(lacking / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, lacking / "model.safetensors", {"format": "pt"})
    with pytest.raises(InvalidInputError, match=r"missing model\.layers\.1\.mlp\.up_proj\.weight"):
        merged([folders[0], lacking], tmp_path / "merged", "--window", 16)
    broken = dense(1)
    with torch.no_grad():
        broken.model.layers[1].mlp.up_proj.weight[0, 0] = torch.nan
    with pytest.raises(InvalidInputError, match=r"mlp\.up_proj\.weight of model 1 is 'not finite'"):
        merge_models([dense(), broken], TEXTS)


def test_tokens_that_the_models_do_not_have_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="tokens of text 1 is '32 to 64'; expected 0 to 63"):
        merge_models([dense(), dense()], [TEXTS[0], TEXTS[1].clamp(min=0) + (TEXTS[1] == 63)])
