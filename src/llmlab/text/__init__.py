"""Text before it is numbers: Unicode, cleaning, filters, duplicates, words, and byte-pair encoding."""

from llmlab.text.bpe import BPE, load_bpe
from llmlab.text.chunk import Chunk, chunk, sentence_spans, token_windows
from llmlab.text.clean import clean, strip_tags
from llmlab.text.contamination import NgramIndex, Overlap
from llmlab.text.dedup import Duplicates, MinHash, exact_duplicates, jaccard, near_duplicates, shingles
from llmlab.text.langid import NgramBayes
from llmlab.text.mixing import effective_sources, passes, temperature_weights
from llmlab.text.normalize import changes, normalize
from llmlab.text.offsets import offsets, tokens_in
from llmlab.text.personal import Found, find_personal, is_chinese_id, luhn, mask_personal
from llmlab.text.pretokenize import PATTERNS, as_printed, pieces
from llmlab.text.quality import C4, FINEWEB, GOPHER, GOPHER_REPETITION, SHORT_CHINESE, Rule, failures, measures
from llmlab.text.segment import Score, UnigramSegmenter, count_words, maximum_match, score_segmentation

__all__ = [
    "BPE",
    "C4",
    "FINEWEB",
    "GOPHER",
    "GOPHER_REPETITION",
    "PATTERNS",
    "SHORT_CHINESE",
    "Chunk",
    "Duplicates",
    "Found",
    "MinHash",
    "NgramBayes",
    "NgramIndex",
    "Overlap",
    "Rule",
    "Score",
    "UnigramSegmenter",
    "as_printed",
    "changes",
    "chunk",
    "clean",
    "count_words",
    "effective_sources",
    "exact_duplicates",
    "failures",
    "find_personal",
    "is_chinese_id",
    "jaccard",
    "load_bpe",
    "luhn",
    "mask_personal",
    "maximum_match",
    "measures",
    "near_duplicates",
    "normalize",
    "offsets",
    "passes",
    "pieces",
    "score_segmentation",
    "sentence_spans",
    "shingles",
    "strip_tags",
    "temperature_weights",
    "token_windows",
    "tokens_in",
]
