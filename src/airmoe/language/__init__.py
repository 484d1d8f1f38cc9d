"""Language models whose experts live on different devices."""

from airmoe.language.attention import Cache
from airmoe.language.form import TransformerSettings
from airmoe.language.huggingface import NodesOfModel
from airmoe.language.texts import Domain, Texts, load_texts
from airmoe.language.transformer import LanguageOutput, MoeTransformer

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
