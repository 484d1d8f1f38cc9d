"""What a request for completions may say, and a text that ends before a stop."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airmoe.errors import InvalidInputError
from airmoe.language.completions import GrowingText, read_request


def request(**changes: object) -> bytes:
    return json.dumps({"model": "lab", "prompt": "def "} | changes).encode()


def test_openais_defaults_hold() -> None:
    read = read_request(request())
    told = read.prompts, read.max_tokens, read.temperature, read.n, read.stream, read.seed
    assert told == (["def "], 16, 1.0, 1, False, None)


def test_n_texts_for_each_prompt() -> None:
    assert read_request(request(prompt=["a", "b"], n=2)).prompts == ["a", "a", "b", "b"]


def test_values_that_change_nothing_are_taken() -> None:
    neutral = {"top_p": 1, "presence_penalty": 0.0, "frequency_penalty": 0, "best_of": 1, "logprobs": None}
    read_request(request(**neutral, suffix=None, logit_bias=None, user="me", stop=None, seed=None))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"top_p": 0.9}, r"top_p is 0.9; expected 1, or nothing: airmoe has no such parameter"),
        ({"presence_penalty": 1}, "presence_penalty is 1; expected 0, or nothing"),
        ({"best_of": 2}, "best_of is 2; expected 1, or nothing"),
        ({"logprobs": 3}, "logprobs is 3; expected nothing"),
        ({"suffix": "x"}, "suffix is 'x'; expected nothing"),
        ({"prompt": ""}, r"prompt\.0 is ''; expected a text of at least 1"),
        ({"prompt": []}, "prompt is .*; expected a list of at least 1"),
        ({"prompt": [1, 2]}, r"prompt\.0 is 1; expected a text"),
        ({"prompt": "\ud800"}, "request|prompt"),
        ({"prompt": ["a"] * 20, "n": 2}, "prompts times n is 40; expected at most 32"),
        ({"max_tokens": 0}, "max_tokens is 0; expected at least 1"),
        ({"max_tokens": True}, "max_tokens is True; expected an integer"),
        ({"temperature": 2.1}, "temperature is 2.1; expected at most 2"),
        ({"temperature": float("nan")}, "temperature is nan|request"),
        ({"stop": ["a"] * 5}, "stop is .*; expected a list of at most 4"),
        ({"stop": ""}, r"stop\.0 is ''"),
        ({"without": ["2"]}, r"without\.0 is '2'; expected an integer"),
        ({"max_token": 3}, "max_token is 3; expected a known key; did you mean max_tokens"),
    ],
)
def test_a_wrong_request_names_the_key(changes: dict[str, object], told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        read_request(request(**changes))


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'{"prompt":"a"}', b"null", b"9" * 5000])
def test_what_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInputError):
        read_request(body)


@given(
    st.text(alphabet="abé€", max_size=12),
    st.lists(st.text(alphabet="abé", min_size=1, max_size=4), max_size=4),
)
def test_a_text_grows_to_what_stands_before_the_first_stop(text: str, stops: list[str]) -> None:
    growing, grown = GrowingText(stops), ""
    data = text.encode()
    for number, byte in enumerate(data, start=1):
        grown += growing.add(bytes([byte]), last=number == len(data))
        begun = data[:number].decode(errors="ignore")
        found = [at for stop in stops if (at := begun.find(stop)) >= 0]
        if found:
            begun = begun[: min(found)]
        assert begun.startswith(grown) or number == len(data)
    found = [at for stop in stops if (at := text.find(stop)) >= 0]
    # A shorter stop may be complete before a longer one that begins earlier.
    expected = {text[: text.find(stop)] for stop in stops if stop in text} or {text}
    assert grown in expected
    assert growing.ended == bool(found)


def test_half_a_character_at_the_end_is_shown() -> None:
    growing = GrowingText([])
    assert growing.add("é".encode()[:1]) == ""
    assert growing.add(b"x", last=True) == "�x"
    assert GrowingText([]).add("é".encode()[:1], last=True) == "�"


def test_what_may_be_a_stop_is_held_back() -> None:
    growing = GrowingText(["\n\n"])
    assert [growing.add(byte) for byte in (b"a", b"\n", b"b", b"\n", b"\n", b"c")] == [
        "a",
        "",
        "\nb",
        "",
        "",
        "",
    ]
    assert growing.ended
