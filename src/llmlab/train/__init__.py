"""Training: the loop and what goes into it, adapters, and learning from answers and from preferences.

============================  =========================================================================
:mod:`~llmlab.train.trainer`  the loop, :func:`train_model`: accumulation, clipping, evaluation, callbacks
:mod:`~llmlab.train.loop`     :func:`fit`, the loop with one decent recipe filled in
``batches``                   the order of the data, and the way back to a place in it
``checkpoint``                checkpoints that are whole or refused; a run that finds one goes on
``stopping``                  early stopping that gives back the best weights
``schedules``, ``clip``       factors on the learning rate; gradient clipping
``optim``                     SGD, AdaGrad, RMSProp, Adam, AdamW, Muon, to be read
``lora``, ``sft``, ``dpo``    adapters; loss on the answer only; preferences
============================  =========================================================================
"""

from llmlab.train.batches import bucket_by_length
from llmlab.train.checkpoint import Checkpoints, DamagedCheckpoint
from llmlab.train.clip import clip_norm, clip_value, gradient_norm
from llmlab.train.loop import fit
from llmlab.train.optim import decay_groups, state_bytes
from llmlab.train.schedules import constant, inverse_sqrt, step_decay, warmup_cosine, warmup_linear, wsd
from llmlab.train.stopping import EarlyStopping
from llmlab.train.trainer import History, Step, train_model

__all__ = [
    "Checkpoints",
    "DamagedCheckpoint",
    "EarlyStopping",
    "History",
    "Step",
    "bucket_by_length",
    "clip_norm",
    "clip_value",
    "constant",
    "decay_groups",
    "fit",
    "gradient_norm",
    "inverse_sqrt",
    "state_bytes",
    "step_decay",
    "train_model",
    "warmup_cosine",
    "warmup_linear",
    "wsd",
]
