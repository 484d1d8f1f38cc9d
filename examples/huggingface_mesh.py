"""A mixture of Hugging Face whose experts four processes serve; one is killed, and replicas answer instead.

The weights here are random; see huggingface_nodes.py.
"""

from tempfile import TemporaryDirectory

import torch
from transformers import AutoModelForCausalLM, MixtralConfig

from airmoe.language import MeshSource, NodesOfModel, export_nodes_of_model
from airmoe.mesh.fleet import NodeFleet
from airmoe.runfolder import client_folders

size = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4}
model = AutoModelForCausalLM.from_config(MixtralConfig(vocab_size=256, num_key_value_heads=4, **size)).eval()
asked = {"max_new_tokens": 20, "do_sample": False, "pad_token_id": 0}
prompt = torch.tensor([list(b"experts of four nodes")])
with TemporaryDirectory() as run:
    export_nodes_of_model(model, run, placement=[[e % 4, (e + 1) % 4] for e in range(8)])
    with NodeFleet(client_folders(run)) as fleet:
        mesh = MeshSource(f"{run}/clients/server", fleet.addresses, hedge_s=1.0)
        mesh.wait_for_all()
        fleet.kill(2)
        with mesh, NodesOfModel(model, placement=mesh.placements[0], calls=mesh.calls(), source=mesh.node):
            text = model.generate(prompt, **asked)
print(f"the same text as without nodes: {text.equal(model.generate(prompt, **asked))}")
