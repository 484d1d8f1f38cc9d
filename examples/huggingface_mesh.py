"""A mixture of Hugging Face whose experts four processes serve; one is killed, and replicas answer instead.

The weights here are random; see huggingface_nodes.py.
"""

from tempfile import TemporaryDirectory

import torch
from transformers import AutoModelForCausalLM, MixtralConfig

from airmoe.language import MeshSource, NodesOfModel, export_nodes_of_model
from airmoe.mesh import local_identity
from airmoe.mesh.fleet import NodeFleet
from airmoe.runfolder import client_folders

size = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4}
model = AutoModelForCausalLM.from_config(MixtralConfig(vocab_size=256, num_key_value_heads=4, **size)).eval()
asked = {"inputs": torch.tensor([list(b"experts of four nodes")]), "max_new_tokens": 20, "do_sample": False}
with TemporaryDirectory() as run:
    server = export_nodes_of_model(model, run, placement=[[e % 4, (e + 1) % 4] for e in range(8)])
    with NodeFleet(client_folders(run)) as fleet:
        mesh = MeshSource(server, fleet.addresses, hedge_s=1.0, identity=local_identity(server))
        mesh.wait_for_all()
        fleet.kill(2)
        with mesh, NodesOfModel(model, placement=mesh.placements[0], calls=mesh.calls(), source=mesh.node):
            text = model.generate(**asked, pad_token_id=0)
print(f"the same text as without nodes: {text.equal(model.generate(**asked, pad_token_id=0))}")
