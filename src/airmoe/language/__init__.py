"""Language models whose experts live on different devices."""

from airmoe.language.texts import Domain, Texts, load_texts
from airmoe.language.transformer import Cache, LanguageOutput, MoeTransformer, TransformerSettings

__all__ = [
    "Cache",
    "Domain",
    "LanguageOutput",
    "MoeTransformer",
    "Texts",
    "TransformerSettings",
    "load_texts",
]
