"""What a model costs, worked out on paper: parameters, operations, bytes, time, price.

Every formula is held against published figures, transformers' own classes or real tensors in the tests.
"""

from llmlab.estimate.compute import (
    CARDS,
    Card,
    forward_flops,
    gpu_hours,
    training_cost,
    training_days,
    training_flops,
    training_flops_of,
    utilisation,
)
from llmlab.estimate.memory import (
    OPTIMISERS,
    activation_bytes,
    adapter_memory,
    cache_bytes,
    kv_cache_bytes,
    latent_cache_bytes,
    lora_parameters,
    quantised_bytes,
    training_memory,
)
from llmlab.estimate.parameters import (
    Architecture,
    active_parameters,
    attention_parameters,
    feed_forward_parameters,
    latent_attention_parameters,
    non_embedding_parameters,
    parameters,
    total_parameters,
)
from llmlab.estimate.published import PUBLISHED, Published, find
from llmlab.estimate.scaling import BESIROGLU, HOFFMANN, HOFFMANN_PRINTED, Fit, balanced, compute_optimal, fitted_loss
from llmlab.estimate.serving import decode_bound, largest_batch, prefill_seconds, serving_memory, weights_read
from llmlab.estimate.sizes import BYTES

__all__ = [
    "BESIROGLU",
    "BYTES",
    "CARDS",
    "HOFFMANN",
    "HOFFMANN_PRINTED",
    "OPTIMISERS",
    "PUBLISHED",
    "Architecture",
    "Card",
    "Fit",
    "Published",
    "activation_bytes",
    "active_parameters",
    "adapter_memory",
    "attention_parameters",
    "balanced",
    "cache_bytes",
    "compute_optimal",
    "decode_bound",
    "feed_forward_parameters",
    "find",
    "fitted_loss",
    "forward_flops",
    "gpu_hours",
    "kv_cache_bytes",
    "largest_batch",
    "latent_attention_parameters",
    "latent_cache_bytes",
    "lora_parameters",
    "non_embedding_parameters",
    "parameters",
    "prefill_seconds",
    "quantised_bytes",
    "serving_memory",
    "total_parameters",
    "training_cost",
    "training_days",
    "training_flops",
    "training_flops_of",
    "training_memory",
    "utilisation",
    "weights_read",
]
