"""A mixture of Hugging Face over four nodes, two experts on each: what does a text cost, who chooses?

The weights here are random. `AutoModelForCausalLM.from_pretrained(NAME)` of a family that
`airmoe.language.families.FAMILIES` lists takes their place.
"""

import torch
from transformers import AutoModelForCausalLM, MixtralConfig

from airmoe.language import NodesOfModel
from airmoe.links import Ofdma, RayleighFading
from airmoe.nn import IdealRadioCarrier

torch.manual_seed(0)
size = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4}
model = AutoModelForCausalLM.from_config(MixtralConfig(vocab_size=256, num_key_value_heads=4, **size)).eval()
carrier = IdealRadioCarrier(RayleighFading(nodes=4, radio=Ofdma(subcarriers=16, charge_return=True)).at(0))
prompt = torch.tensor([list(b"experts of four nodes")])
for policy in ("topk:2", "des:0.7:2", "jesa:0.7:2"):
    with NodesOfModel(model, placement=[0, 0, 1, 1, 2, 2, 3, 3], policy=policy, carrier=carrier) as nodes:
        model.generate(prompt, max_new_tokens=20, do_sample=False, pad_token_id=0)
    print(f"{policy}: {nodes.energy_j * 1e3:.3f} mJ")
