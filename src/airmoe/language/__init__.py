"""Language models whose experts live on different devices."""

from airmoe.language.attention import Cache
from airmoe.language.form import TransformerSettings
from airmoe.language.huggingface import NodesOfModel
from airmoe.language.huggingface_export import export_nodes_of_model
from airmoe.language.mesh import MeshSource
from airmoe.language.texts import Domain, Texts, load_texts
from airmoe.language.transformer import LanguageOutput, MoeTransformer
from airmoe.language.writer import Writer

__all__ = [
    "Cache",
    "Domain",
    "LanguageOutput",
    "MeshSource",
    "MoeTransformer",
    "NodesOfModel",
    "Texts",
    "TransformerSettings",
    "Writer",
    "export_nodes_of_model",
    "load_texts",
]
