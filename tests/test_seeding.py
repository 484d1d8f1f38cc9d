"""Seeded blocks."""

from contextlib import nullcontext

import pytest
import torch

from airmoe.seeding import torch_seeded


def test_a_seeded_block_draws_the_same_and_leaves_the_generator_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    drawn = []
    for purpose in ("noise", "noise", "weights"):
        with torch_seeded(0, purpose, 4):
            drawn.append(torch.rand(3))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert torch.equal(torch.rand(3), expected)


def test_generators_of_all_devices_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    put_back = list[int]()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: put_back.extend(devices) or nullcontext())
    with torch_seeded(0, "noise"):
        pass
    assert put_back == [0, 1]
