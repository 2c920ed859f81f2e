"""Real models and real data: one table, a cache, and loaders.

``fetch`` brings an asset onto this machine once, ``load_...`` reads it, ``status`` says what is here.
On the command line: ``python3 course.py assets list``.
"""

from llmlab.assets.commands import main
from llmlab.assets.glove import WordVectors, load_glove
from llmlab.assets.load import (
    NewsSentences,
    Poem,
    Ratings,
    Reviews,
    Vocabulary,
    load_conversations,
    load_minilm,
    load_novels,
    load_peoples_daily,
    load_reviews,
    load_smollm2,
    load_tang_poems,
    load_vader,
    load_vocabulary,
)
from llmlab.assets.senses import Sense, load_senses
from llmlab.assets.store import AssetError, AssetMissing, Row, cache_dir, fetch, path, status
from llmlab.assets.table import TABLE, Asset

__all__ = [
    "TABLE",
    "Asset",
    "AssetError",
    "AssetMissing",
    "NewsSentences",
    "Poem",
    "Ratings",
    "Reviews",
    "Row",
    "Sense",
    "Vocabulary",
    "WordVectors",
    "cache_dir",
    "fetch",
    "load_conversations",
    "load_glove",
    "load_minilm",
    "load_novels",
    "load_peoples_daily",
    "load_reviews",
    "load_senses",
    "load_smollm2",
    "load_tang_poems",
    "load_vader",
    "load_vocabulary",
    "main",
    "path",
    "status",
]
