"""What errors say: of packages that are missing, of where they came from, and in another process."""

import json
import pickle
import shlex
import sys
from pathlib import Path

import pytest

import airmoe
from airmoe import errors
from airmoe.errors import InvalidInputError, MissingExtraError, one_of, require, telling


def test_what_is_installed_is_not_missed() -> None:
    require("train", "json", "numpy")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("jessa", "one of JESA, wlr; did you mean JESA?"),
        ("circle", "one of JESA, wlr"),
        ("", "one of JESA, wlr"),
        (3, "one of JESA, wlr"),
    ],
)
def test_a_name_that_is_near_a_wrong_one_is_what_was_probably_meant(value: object, said: str) -> None:
    assert one_of(value, ["JESA", "wlr"]) == said


def refusal(extra: str, *modules: str, by: str = "this command") -> str:
    with pytest.raises(MissingExtraError) as refused:
        require(extra, *modules, by=by)
    return str(refused.value)


def test_missing_packages_are_named_with_who_needs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    said = refusal("train", "torch", "json", "no_such_package")
    assert said.startswith("this command needs torch, no_such_package; install with: pip install ")
    said = refusal("train", "no_such_package", by="a TDL channel")
    assert said.startswith("a TDL channel needs no_such_package; install with: pip install ")


def test_a_checkout_is_told_to_install_itself_from_wherever_it_is_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    checkout = Path(airmoe.__file__).parents[2]
    monkeypatch.chdir(tmp_path)
    command = shlex.split(refusal("train", "no_such_package").partition("install with: ")[2])
    assert command == ["pip", "install", "-e", f"{checkout}[train]"]
    monkeypatch.chdir(checkout)
    assert refusal("train", "no_such_package").endswith("pip install -e '.[train]'")


@pytest.mark.parametrize(
    ("origin", "wanted"),
    [
        (None, "airmoe[train]"),
        ({"url": "https://files.test/it.whl", "archive_info": {}}, "airmoe[train]"),
        ({"url": "file:///d/airmoe.whl", "archive_info": {}}, "airmoe[train] @ file:///d/airmoe.whl"),
    ],
)
def test_what_was_installed_from_a_file_is_told_that_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, origin: dict[str, object] | None, wanted: str
) -> None:
    info = tmp_path / "airmoe-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: airmoe\nVersion: 1\n", encoding="utf-8")
    if origin is not None:
        (info / "direct_url.json").write_text(json.dumps(origin), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(errors, "__file__", str(tmp_path / "airmoe" / "errors.py"))
    command = shlex.split(refusal("train", "no_such_package").partition("install with: ")[2])
    assert command == ["pip", "install", wanted]


def test_words_are_put_in_front_of_airmoe_s_errors_and_beside_others() -> None:
    with (
        pytest.raises(InvalidInputError, match=r"^round 3: client 1: k is 0; expected 1") as refused,
        telling("round 3"),
        telling("client 1"),
    ):
        raise InvalidInputError("k", 0, "1")
    assert (refused.value.name, refused.value.value, refused.value.expected) == ("k", 0, "1")
    with pytest.raises(KeyError) as noted, telling("round 3"):
        raise KeyError("x")
    assert noted.value.__notes__ == ["airmoe: round 3"]


def test_an_error_crosses_to_another_process_whole() -> None:
    with pytest.raises(InvalidInputError) as refused, telling("curve jesa"):
        raise InvalidInputError("k", 0, "1")
    again = pickle.loads(pickle.dumps(refused.value))
    assert str(again) == "curve jesa: k is 0; expected 1"
    assert (type(again), again.name, again.value, again.expected) == (InvalidInputError, "k", 0, "1")
