"""Plugins: parts of a user's own under names, wherever a name is taken.

Shape suffixes: T items, E experts, F features.
"""

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from airmoe.channel_aware import ChannelAwareConfig
from airmoe.cli.serving import _joint_policy
from airmoe.data import ImageSet, partition
from airmoe.errors import AirmoeError, InvalidInputError, PluginError, RunFolderError
from airmoe.federated import Averaging, Message, make_aggregation
from airmoe.links import make_process
from airmoe.networked import NetworkedConfig, train_run
from airmoe.nn import build_extractor, build_model
from airmoe.nn.build import build_gate
from airmoe.plugins import load_plugins, plugin_digests, register, unload_plugins, unused_plugins
from airmoe.runs import compare, load_run
from airmoe.scheduling import Cost, Slot, make_policy

ALL_KINDS = """
import numpy as np
import torch
from torch import nn

from airmoe.nn import GateOutput
from airmoe.plugins import register
from airmoe.scheduling import routing_of


@register("policy", "above")
class Above:
    share: float = 0.5
    seed: int = 0

    def route(self, scores_TE, cost, slot):
        best_T1 = scores_TE.max(axis=1, keepdims=True)
        return routing_of((scores_TE >= self.share * best_T1) & cost.reachable_TE, cost)


@register("channel", "stairs")
class Stairs:
    step_db: float

    def draw(self, slots, links, random):
        return np.tile(self.step_db * np.arange(links, dtype=float), (slots, 1))


@register("partition", "halves")
def halves(labels_T, clients, random):
    return np.array_split(np.arange(len(labels_T)), clients)


@register("aggregation", "first")
def first(state, replies):
    return dict(replies[min(replies)].tensors)


@register("query", "neighbours-first")
def neighbours_first(scores_TE, round_, client, random):
    wanted_TE = torch.zeros_like(scores_TE, dtype=torch.bool)
    wanted_TE[:, client] = True
    wanted_TE[:, (client + 1) % scores_TE.shape[1]] = round_ > 0
    return wanted_TE


@register("sync", "onward")
class Onward:
    hops: int = 1

    def neighbours(self, client, clients, round_):
        return [(client + self.hops) % clients]


@register("gate", "quadratic")
class Quadratic(nn.Module):
    sees_snr = False

    def __init__(self, features, experts):
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(features), nn.Linear(features, experts)

    def forward(self, pooled_TF, snr_db_TE=None):
        logits_TE = self.linear(self.norm(pooled_TF) ** 2)
        return GateOutput(torch.softmax(logits_TE, dim=-1), logits_TE)


@register("backbone", "pixels")
class Pixels(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.layers = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(64 * channels, 24), nn.ReLU())

    def forward(self, images_TCHW):
        return self.layers(images_TCHW)
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(ALL_KINDS, encoding="utf-8")
    return path


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def written(body: str, name: str = "mine.py") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("from airmoe.plugins import register\n" + body, encoding="utf-8")
        return path

    return written


COST, SLOT = Cost(np.zeros((1, 3))), Slot(source_T=[0], placement=[0, 1, 2])


def test_a_policy_is_read_from_a_text_and_its_name_is_the_shortest_one(plugin: Path) -> None:
    load_plugins([plugin])
    policy = make_policy("above:0.50", seed=7)
    assert (policy.name, policy.joint, policy.seed) == ("above", False, 7)  # type: ignore[attr-defined]
    assert policy.route(np.array([[0.1, 0.6, 0.3]]), COST, SLOT).mask_TE.tolist() == [[False, True, True]]
    assert make_policy("above:1").name == "above:1"


def test_a_channel_is_read_from_a_text(plugin: Path) -> None:
    load_plugins([plugin])
    assert make_process("stairs:2").draw(2, 3, np.random.default_rng(0)).tolist() == [[0, 2, 4]] * 2


def test_a_partition_may_be_a_function(plugin: Path) -> None:
    load_plugins([plugin])
    parts = partition(np.zeros(5, np.int64), 2, "halves", seed=0)
    assert [part.tolist() for part in parts] == [[0, 1, 2], [3, 4]]


def test_an_aggregation_takes_the_place_of_the_mean(plugin: Path) -> None:
    load_plugins([plugin])
    stage = Averaging("s", 2, aggregation=make_aggregation("first"))
    replies = {client: Message({"w": torch.tensor([float(client)])}, {"samples": 1}) for client in (1, 0)}
    state, _ = stage.server_step("train", {"w": torch.zeros(1)}, replies)
    assert state == {"w": torch.tensor([0.0])}


def test_a_gate_and_a_backbone_make_a_model(plugin: Path) -> None:
    load_plugins([plugin])
    model = build_model("pixels", classes=10, experts=3, channels=1, gate="quadratic").eval()
    assert model(torch.rand(2, 1, 32, 32)).scores_TE.shape == (2, 3)
    assert (model.extractor.features, model.extractor.payload_shape) == (24, (24,))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (make_policy, "above"),
        (make_process, "stairs:1"),
        (make_aggregation, "first"),
        (lambda text: partition(np.zeros(4, np.int64), 2, text, seed=0), "halves"),
        (lambda text: build_model("lenet5", classes=2, experts=2, channels=1, gate=text), "quadratic"),
        (lambda text: build_extractor(text, 1), "pixels"),
        (lambda text: NetworkedConfig.model_validate({"model": {"gate": text}}), "quadratic"),
        (lambda text: NetworkedConfig.model_validate({"data": {"partition": text}}), "halves"),
        (lambda text: NetworkedConfig.model_validate({"gate": {"aggregation": text}}), "first"),
        (lambda text: ChannelAwareConfig.model_validate({"model": {"gate": text}}), "quadratic"),
        (lambda text: ChannelAwareConfig.model_validate({"channel": {"snr": text}}), "stairs:1"),
    ],
)
def test_a_name_is_known_once_its_plugin_is_loaded_and_errors_list_it(
    plugin: Path, make: Callable[[str], object], text: str
) -> None:
    with pytest.raises(ValueError, match=text.partition(":")[0]):
        make(text)
    load_plugins([plugin])
    make(text)
    with pytest.raises(ValueError, match=text.partition(":")[0]):
        make("no-such-name")


@pytest.mark.parametrize(
    "make",
    [
        make_policy,
        make_process,
        make_aggregation,
        lambda text: partition(np.zeros(4, np.int64), 2, text, seed=0),
        lambda text: build_model("lenet5", classes=2, experts=2, channels=1, gate=text),
        lambda text: build_extractor(text, 1),
        lambda text: NetworkedConfig.model_validate({"model": {"gate": text}}),
        lambda text: NetworkedConfig.model_validate({"model": {"backbone": text}}),
        lambda text: ChannelAwareConfig.model_validate({"model": {"backbone": text}}),
        _joint_policy,
    ],
)
def test_an_unknown_name_is_told_how_a_part_of_ones_own_gets_one(make: Callable[[str], object]) -> None:
    said = r"or one of your own \(--plugin FILE\.py, or airmoe\.plugins\.register\)"
    with pytest.raises(ValueError, match=said):
        make("no-such-name")


def test_a_plugin_is_used_once_one_of_its_parts_is_asked_for(plugin: Path) -> None:
    load_plugins([plugin])
    for built_in in ("topk", "no-such-name"):
        with contextlib.suppress(InvalidInputError):
            make_policy(built_in)
    assert [each.file for each in unused_plugins()] == ["mine.py"]
    NetworkedConfig.model_validate({"model": {"backbone": "pixels"}})
    assert unused_plugins() == []
    plugin.write_text(ALL_KINDS + "# changed\n", encoding="utf-8")
    load_plugins([plugin])
    assert [each.file for each in unused_plugins()] == ["mine.py"]


def test_a_run_is_trained_with_every_kind_and_evaluated_by_an_own_policy(
    plugin: Path, tmp_path: Path, few_digits: ImageSet, tiny_config: Callable[..., NetworkedConfig]
) -> None:
    load_plugins([plugin])
    config = tiny_config(
        data={"partition": "halves"},
        model={"backbone": "pixels", "gate": "quadratic"},
        features={"aggregation": "first"},
        gate={"aggregation": "first", "query": "neighbours-first", "sync": "onward:1"},
    )
    trained = train_run(config, few_digits, tmp_path / "run")
    run = load_run(tmp_path / "run")
    for name, weights in trained.model.state_dict().items():
        assert torch.equal(run.model.state_dict()[name], weights)
    found = compare(run, few_digits, ["above:0.3"], links=["stairs:5"], seeds=1)
    assert [row.links for row in found.rows if row.policy == "above:0.3"] == ["stairs:5"]
    assert (tmp_path / "run" / "plugins" / "mine.py").read_text("utf-8") == ALL_KINDS
    record = run.record["plugins"]
    assert [each["file"] for each in record] == ["mine.py"]
    assert record[0]["sha256"] == plugin_digests()["mine.py"]
    assert "gate quadratic" in record[0]["parts"]
    refused_without_the_same_plugin(tmp_path / "run", plugin)


def refused_without_the_same_plugin(run: Path, plugin: Path) -> None:
    unload_plugins()
    with pytest.raises(
        RunFolderError, match=r"needs the plugin mine.py; add --plugin .*run/plugins/mine.py"
    ) as told:
        load_run(run)
    assert str(told.value).endswith(f"call airmoe.plugins.load_plugins(['{run}/plugins/mine.py']) first")
    plugin.write_text(ALL_KINDS + "# changed\n", encoding="utf-8")
    load_plugins([plugin])
    with pytest.raises(RunFolderError, match=r"was made with another mine.py"):
        load_run(run)
    unload_plugins()
    load_plugins([run / "plugins" / "mine.py"])
    load_run(run)


class Stopped(Exception):
    """As if the process had ended."""


def test_a_run_is_taken_up_with_the_same_plugins_only(
    plugin: Path,
    tmp_path: Path,
    few_digits: ImageSet,
    tiny_config: Callable[..., NetworkedConfig],
    write: Callable[..., Path],
) -> None:
    def stop(activity: str, done: int, total: int, note: str = "", /) -> None:
        if (activity, done) == ("features", 2):
            raise Stopped

    config, out = tiny_config(), tmp_path / "run"
    load_plugins([plugin])
    with pytest.raises(Stopped):
        train_run(config, few_digits, out, progress=stop)
    unload_plugins()
    with pytest.raises(RunFolderError, match=r"needs the plugin mine.py"):
        train_run(config, few_digits, out, resume=True)
    load_plugins([plugin, write("@register('channel', 'x')\nclass X:\n    draw = print\n", "more.py")])
    with pytest.raises(RunFolderError, match=r"was begun without the plugin more.py"):
        train_run(config, few_digits, out, resume=True)
    unload_plugins()
    load_plugins([plugin])
    train_run(config, few_digits, out, resume=True)


def test_images_that_a_partition_leaves_out_or_shares_are_told(
    write: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    load_plugins(
        [
            write(
                "@register('partition', 'odd')\ndef odd(labels_T, clients, random):\n    return [[2, 0], [0]]"
            )
        ]
    )
    parts = partition(np.zeros(5, np.int64), 2, "odd", seed=0)
    assert [part.tolist() for part in parts] == [[0, 2], [0]]
    assert caplog.messages == ["partition odd: of 5 images 3 go to no client, 1 to several"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("[[0], [1], [2]]", "arrays of partition odd is 3; expected 2, one for each client"),
        ("[[0], []]", "partition odd, client 1 is '0 indices, 0 of them different'; expected one at least"),
        ("[[0], [1, 1]]", "partition odd, client 1 is '2 indices, 1 of them different'"),
        ("[[0], [5]]", "partition odd, client 1[0] is 5; expected an integer from 0 to 4"),
        ("[[0], [0.5]]", "partition odd, client 1 is 'float64'; expected an array of integers"),
        ("1 / 0", "mine.py: partition odd: line 4: ZeroDivisionError: division by zero"),
    ],
)
def test_what_is_no_partition_is_refused(write: Callable[..., Path], given: str, said: str) -> None:
    body = f"@register('partition', 'odd')\ndef odd(labels_T, clients, random):\n    return {given}\n"
    load_plugins([write(body)])
    with pytest.raises(AirmoeError) as refused:
        partition(np.zeros(5, np.int64), 2, "odd", seed=0)
    assert str(refused.value).startswith(said)


def test_weights_of_another_shape_are_no_aggregation(write: Callable[..., Path]) -> None:
    body = "@register('aggregation', 'sum')\ndef s(state, replies):\n    return {'w': state['w'].double()}\n"
    load_plugins([write(body)])
    stage = Averaging("s", 1, aggregation=make_aggregation("sum"))
    reply = {0: Message({"w": torch.zeros(1)}, {"samples": 1})}
    with pytest.raises(InvalidInputError, match="aggregation sum: weights is 'w is "):
        stage.server_step("train", {"w": torch.zeros(1)}, reply)


FAILING = """
@register('policy', 'bad')
class Bad:
    def route(self, scores_TE, cost, slot):
        return helper(scores_TE)

def helper(scores_TE):
    raise KeyError('nothing')
"""


def test_an_error_in_a_call_names_file_part_call_and_line(write: Callable[..., Path]) -> None:
    load_plugins([write(FAILING)])
    with pytest.raises(
        PluginError, match=r"^mine.py: policy bad: route: line 6: KeyError: 'nothing'$"
    ) as error:
        make_policy("bad").route(np.ones((1, 3)), COST, SLOT)
    assert isinstance(error.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("x = 1", "mine.py registers nothing; expected @register(kind, name)"),
        ("def (", "mine.py, line 2: invalid syntax"),
        ("1 / 0", "mine.py, line 2: ZeroDivisionError: division by zero"),
        ("import no_such_module", "mine.py, line 2: ModuleNotFoundError: No module named 'no_such_module'"),
        ("register('polcy', 'x')", "mine.py, line 2: kind is 'polcy'; expected one of policy, gate"),
        ("register('policy', 'A b')", "mine.py, line 2: name is 'A b'; expected small letters"),
        (
            "@register('policy', 'x')\nclass X: ...",
            "mine.py, line 2: mine.py: policy x is 'X'; expected a class",
        ),
        ("@register('policy', 'x')\ndef x(): ...", "mine.py, line 2: mine.py: policy x is 'function'"),
        (
            "@register('channel', 'x')\nclass X:\n    def __init__(self, a): ...\n    def draw(self): ...",
            "mine.py, line 2: mine.py: channel x is 'X'; expected fields in place of __init__",
        ),
        (
            "@register('channel', 'x')\nclass X:\n    a: list\n    def draw(self): ...",
            "mine.py, line 2: mine.py: channel x is 'X'; expected fields that a text can hold",
        ),
    ],
)
def test_a_file_that_is_no_plugin_is_refused_with_its_line(
    write: Callable[..., Path], body: str, said: str
) -> None:
    with pytest.raises(AirmoeError) as refused:
        load_plugins([write(body)])
    assert str(refused.value).startswith(said)
    assert plugin_digests() == {}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("policy", "topk"),
        ("channel", "rayleigh"),
        ("partition", "iid"),
        ("aggregation", "mean"),
        ("query", "topk"),
        ("sync", "ring"),
        ("gate", "linear"),
        ("backbone", "lenet5"),
    ],
)
def test_a_name_that_airmoe_has_is_refused(write: Callable[..., Path], kind: str, name: str) -> None:
    hooks = "route = draw = __call__ = forward = neighbours = print"
    body = f"@register('{kind}', '{name}')\nclass X:\n    {hooks}\n"
    with pytest.raises(InvalidInputError, match=f"name of a {kind} in mine.py is '{name}'.*airmoe has it"):
        load_plugins([write(body)])


POLICY = "@register('policy', 'x')\nclass X:\n    route = print\n"


def test_a_name_that_another_plugin_has_is_refused(write: Callable[..., Path]) -> None:
    load_plugins([write(POLICY, "one.py")])
    with pytest.raises(InvalidInputError, match=r"name of a policy in two.py is 'x'.*one.py has it"):
        load_plugins([write(POLICY, "two.py")])
    with pytest.raises(InvalidInputError, match="it is there twice"):
        load_plugins([write((POLICY * 2).replace("'x'", "'y'"), "three.py")])


def test_a_file_is_loaded_once_and_anew_when_it_has_changed(write: Callable[..., Path]) -> None:
    path = write(POLICY)
    assert load_plugins([path, path]) == load_plugins([path])
    write(POLICY.replace("'x'", "'y'"))
    assert [plugin.parts for plugin in load_plugins([path])] == [("policy y",)]
    with pytest.raises(InvalidInputError):
        make_policy("x")


def test_two_files_of_one_name_are_refused_unless_they_are_the_same(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    path = write(POLICY)
    (tmp_path / "copy").mkdir()
    copy = tmp_path / "copy" / "mine.py"
    shutil.copy(path, copy)
    load_plugins([path, copy])
    copy.write_text(POLICY, encoding="utf-8")
    with pytest.raises(InvalidInputError, match="another file name"):
        load_plugins([copy])


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"nowhere.py'; expected a readable Python file"):
        load_plugins([tmp_path / "nowhere.py"])


def test_a_gate_that_does_not_say_whether_it_sees_links_is_refused_before_training(
    write: Callable[..., Path],
) -> None:
    body = "from torch import nn\n@register('gate', 'mute')\nclass Mute(nn.Linear): ...\n"
    load_plugins([write(body)])
    with pytest.raises(InvalidInputError, match=r"gate mute is 'Mute'; expected .* `sees_snr`"):
        build_model("lenet5", classes=2, experts=2, channels=1, gate="mute")


def test_a_gate_without_a_hidden_layer_offers_no_choice_of_it(write: Callable[..., Path]) -> None:
    body = (
        "from airmoe.nn import LinearGate\n"
        "@register('gate', 'plain')\nclass Plain(LinearGate): pass\n"
        "@register('gate', 'deep')\nclass Deep(LinearGate):\n"
        "    def __init__(self, features, experts, hidden=3):\n"
        "        super().__init__(features, experts)\n        self.width = hidden\n"
    )
    load_plugins([write(body)])
    assert (build_gate("deep", 8, 2).width, build_gate("deep", 8, 2, hidden=7).width) == (3, 7)
    with pytest.raises(InvalidInputError, match="gate_hidden is 7; expected it left out: plain offers"):
        build_gate("plain", 8, 2, hidden=7)


def test_a_backbone_that_gives_no_vectors_is_refused(write: Callable[..., Path]) -> None:
    body = (
        "from torch import nn\n@register('backbone', 'map')\n"
        "class Map(nn.Conv2d):\n    def __init__(self, channels):\n        super().__init__(channels, 3, 3)\n"
    )
    path = write(body)
    load_plugins([path])
    with pytest.raises(InvalidInputError, match="axes of payload is 4; expected 2, the axes of a vector"):
        build_extractor("map", 1)
    write(f"{body}    pooling = 'map'\n")
    load_plugins([path])
    extractor = build_extractor("map", 1)
    assert (extractor.features, extractor.payload_shape) == (3, (3, 30, 30))
    with pytest.raises(InvalidInputError, match="expert_hidden is None; expected a number, model"):
        extractor.tail(2)


def test_a_part_of_a_notebook_may_be_registered_again() -> None:
    for step in (1.0, 2.0):

        @register("channel", "of-a-notebook")
        class Cell:
            step_db: float = step

            def draw(self, slots: int, links: int, random: np.random.Generator) -> np.ndarray:
                return np.full((slots, links), self.step_db)

    assert make_process("of-a-notebook").draw(1, 1, np.random.default_rng(0)).tolist() == [[2.0]]


@pytest.mark.parametrize("kind", [str, Path])
def test_one_file_is_loaded_as_well_as_a_list_of_files(plugin: Path, kind: type) -> None:
    assert [loaded.path for loaded in load_plugins(kind(plugin))] == [plugin]


def test_a_module_keeps_its_class(plugin: Path) -> None:
    load_plugins([plugin])
    gate = build_model("lenet5", classes=2, experts=2, channels=1, gate="quadratic").layer.gate
    assert isinstance(gate, nn.Module)
    assert type(gate).__name__ == "Quadratic"
