"""Training: the loop."""

from llmlab.train.loop import History, bucket_by_length, fit, warmup_cosine

__all__ = ["History", "bucket_by_length", "fit", "warmup_cosine"]
