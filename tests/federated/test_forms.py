"""The form of tensors that belong together."""

import pytest
import torch

from airmoe.federated.forms import fault_of_form, forms_of


@pytest.mark.parametrize(
    ("sent", "fault"),
    [
        ({"a": torch.zeros(2)}, "b is left out; expected (torch.float32, (3,))"),
        (
            {"a": torch.zeros(2), "b": torch.zeros(4)},
            "b is (torch.float32, (4,)); expected (torch.float32, (3,))",
        ),
        (
            {"a": torch.zeros(2).double(), "b": torch.zeros(3)},
            "a is (torch.float64, (2,)); expected (torch.float32, (2,))",
        ),
        (
            {"a": torch.zeros(2), "b": torch.zeros(3), "c": torch.zeros(1)},
            "c is (torch.float32, (1,)); expected no such tensor",
        ),
        ({"b": torch.zeros(3), "a": torch.zeros(2)}, ""),
    ],
)
def test_the_first_difference_in_form_is_named(sent: dict[str, torch.Tensor], fault: str) -> None:
    assert fault_of_form(sent, forms_of({"a": torch.zeros(2), "b": torch.zeros(3)})) == fault
