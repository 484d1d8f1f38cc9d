"""A run whose features, experts and gate are all made of sums is written, loaded and served as any other."""

from pathlib import Path

import numpy as np
import torch

from airmoe.data import as_pixels, load_images
from airmoe.networked import parse_config, train_run
from airmoe.nn import DiscriminantExpert, PosteriorGate
from airmoe.onnx_runtime import onnx_session
from airmoe.runs import load_run

SETTINGS = """
[data]
clients = 4
[model]
backbone = "patches"
width = 12
[features]
method = "patches"
[features.patches]
rounds = 2
[experts]
method = "sums"
[gate]
method = "posterior"
"""


def test_a_run_of_sums_is_loaded_as_it_was_trained_and_its_files_answer_alike(tmp_path: Path) -> None:
    images = load_images("digits")
    trained = train_run(parse_config(SETTINGS, "test"), images, tmp_path / "run")
    run = load_run(tmp_path / "run")
    assert isinstance(run.model.layer.gate, PosteriorGate)
    assert all(isinstance(expert, DiscriminantExpert) for expert in run.model.layer.experts)
    pixels_TCHW = torch.from_numpy(as_pixels(images.test_images[:20]))
    with torch.no_grad():
        before, after = trained.model(pixels_TCHW), run.model(pixels_TCHW)
    assert torch.equal(before.y_TC, after.y_TC)
    client = tmp_path / "run" / "clients" / "03"
    features_TF = onnx_session(client / "extractor.onnx").run(None, {"input": pixels_TCHW.numpy()})[0]
    answers_TC = onnx_session(client / "expert-3.onnx").run(None, {"input": features_TF})[0]
    with torch.no_grad():
        expected_TC = run.model.layer.experts[3](run.model.extractor(pixels_TCHW))
    np.testing.assert_allclose(answers_TC, expected_TC.numpy(), atol=1e-4)
