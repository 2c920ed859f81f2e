"""Explaining one prediction of a model that is a black box.

``lime``       a weighted linear model around one text (Ribeiro et al. 2016)
``exact``      the same question answered by enumeration: leave-one-out, LIME without sampling noise, Shapley values
``faithful``   is the explanation true of the model: deletion curves, stability over seeds, fidelity of the surrogate
``highlight``  a text with signed numbers and colours under its units, as HTML
``words``      Chinese words as units
"""

from llmlab.explain.exact import exact_lime, leave_one_out, shapley
from llmlab.explain.faithful import deletion_curve, jaccard, local_fidelity, stability
from llmlab.explain.highlight import highlight
from llmlab.explain.lime import Explanation, Units, cut, explain, fit, kernel, sample_masks, weighted_ridge
from llmlab.explain.words import chinese_words

__all__ = [
    "Explanation",
    "Units",
    "chinese_words",
    "cut",
    "deletion_curve",
    "exact_lime",
    "explain",
    "fit",
    "highlight",
    "jaccard",
    "kernel",
    "leave_one_out",
    "local_fidelity",
    "sample_masks",
    "shapley",
    "stability",
    "weighted_ridge",
]
