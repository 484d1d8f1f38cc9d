"""Language models whose experts live on different devices."""

from airmoe.language.huggingface import NodesOfModel
from airmoe.language.texts import Domain, Texts, load_texts
from airmoe.language.transformer import Cache, LanguageOutput, MoeTransformer, TransformerSettings

__all__ = [
    "Cache",
    "Domain",
    "LanguageOutput",
    "MoeTransformer",
    "NodesOfModel",
    "Texts",
    "TransformerSettings",
    "load_texts",
]
