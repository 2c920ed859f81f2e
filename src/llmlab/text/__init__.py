"""Text before it is numbers: Unicode, cleaning, duplicates, words, and byte-pair encoding."""

from llmlab.text.bpe import BPE, load_bpe
from llmlab.text.clean import clean, is_chinese_id, mask_personal, strip_tags
from llmlab.text.contamination import NgramIndex, Overlap
from llmlab.text.dedup import Duplicates, MinHash, exact_duplicates, jaccard, near_duplicates, shingles
from llmlab.text.normalize import changes, normalize
from llmlab.text.pretokenize import PATTERNS, as_printed, pieces
from llmlab.text.segment import Score, UnigramSegmenter, count_words, maximum_match, score_segmentation

__all__ = [
    "BPE",
    "PATTERNS",
    "Duplicates",
    "MinHash",
    "NgramIndex",
    "Overlap",
    "Score",
    "UnigramSegmenter",
    "as_printed",
    "changes",
    "clean",
    "count_words",
    "exact_duplicates",
    "is_chinese_id",
    "jaccard",
    "load_bpe",
    "mask_personal",
    "maximum_match",
    "near_duplicates",
    "normalize",
    "pieces",
    "score_segmentation",
    "shingles",
    "strip_tags",
]
