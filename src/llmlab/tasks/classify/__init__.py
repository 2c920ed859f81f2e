"""Text classification: plain baselines, a character transformer, a frozen encoder, a prompted language model.

Every classifier answers ``predict_proba(texts) -> (n, 2)``, the probabilities of negative and positive.
"""

from llmlab.tasks.classify.answer import AnswerClassifier
from llmlab.tasks.classify.char import Characters, CharClassifier, CharConfig, pad
from llmlab.tasks.classify.checkpoints import (
    CheckpointError,
    load_char_classifier,
    load_film_classifier,
    load_review_classifiers,
    read_record,
    write_checkpoint,
)
from llmlab.tasks.classify.data import Labelled, fingerprint, from_ratings, normalise, part_of, split
from llmlab.tasks.classify.encoder import EncoderClassifier, sentence_features
from llmlab.tasks.classify.linear import LinearClassifier, LookupClassifier
from llmlab.tasks.classify.prompted import PromptClassifier, next_word_logprobs

__all__ = [
    "AnswerClassifier",
    "CharClassifier",
    "CharConfig",
    "Characters",
    "CheckpointError",
    "EncoderClassifier",
    "Labelled",
    "LinearClassifier",
    "LookupClassifier",
    "PromptClassifier",
    "fingerprint",
    "from_ratings",
    "load_char_classifier",
    "load_film_classifier",
    "load_review_classifiers",
    "next_word_logprobs",
    "normalise",
    "pad",
    "part_of",
    "read_record",
    "sentence_features",
    "split",
    "write_checkpoint",
]
