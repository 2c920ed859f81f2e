"""Published training runs: which model, on how many tokens, in how many hours of which device."""

from __future__ import annotations

from dataclasses import dataclass

from llmlab.estimate.compute import training_flops
from llmlab.estimate.parameters import active_parameters
from llmlab.estimate.published import PUBLISHED

__all__ = ["RUNS", "TrainingRun"]


@dataclass(frozen=True)
class TrainingRun:
    """One run.

    Attributes:
        year: of publication.
        parameters: N of 6ND; of a mixture of experts what one token visits.
        tokens: seen in training, repetitions included.
        hours, device: of all devices together, where they were published; ``device`` is a name in ``CARDS``.
        source: where tokens and hours stand.
    """

    year: int
    parameters: float
    tokens: float
    source: str
    hours: float | None = None
    device: str = ""

    @property
    def flops(self) -> float:
        """6ND."""
        return training_flops(self.parameters, self.tokens)


def _of(
    name: str, year: int, tokens: float, source: str, hours: float | None = None, device: str = ""
) -> TrainingRun:  # the count comes from the sizes, not from the name
    return TrainingRun(year, active_parameters(PUBLISHED[name].architecture), tokens, source, hours, device)


_HOFFMANN = "Hoffmann et al., 2022, arXiv:2203.15556, tables 1 and 4"
_LLAMA1 = "Touvron et al., 2023, arXiv:2302.13971, tables 2 and 15"
_LLAMA2 = "Touvron et al., 2023, arXiv:2307.09288, tables 1 and 2"
_LLAMA31 = "model card of Llama 3.1, which says 15T+"
_LLAMA3 = "Llama 3, 2024, arXiv:2407.21783; model card (hours)"
_QWEN = "Qwen2.5, 2024, arXiv:2412.15115, section 3.1"
_SMOL = "model card; Ben Allal et al., 2025, arXiv:2502.02737"

#: name -> the run, in the order of publication
RUNS: dict[str, TrainingRun] = {
    "gpt3-175b": _of("gpt3-175b", 2020, 300e9, "Brown et al., 2020, arXiv:2005.14165, table 2.1"),
    "gopher-280b": TrainingRun(2021, 280e9, 300e9, _HOFFMANN),
    "chinchilla-70b": TrainingRun(2022, 70e9, 1.4e12, _HOFFMANN),
    "palm-540b": _of("palm-540b", 2022, 780e9, "Chowdhery et al., 2022, arXiv:2204.02311, section 3"),
    "llama-7b": _of("llama-7b", 2023, 1.0e12, _LLAMA1, 82_432, "A100"),
    "llama-13b": _of("llama-13b", 2023, 1.0e12, _LLAMA1, 135_168, "A100"),
    "llama-33b": _of("llama-33b", 2023, 1.4e12, _LLAMA1, 530_432, "A100"),
    "llama-65b": _of("llama-65b", 2023, 1.4e12, _LLAMA1, 1_022_362, "A100"),
    "llama2-7b": _of("llama2-7b", 2023, 2.0e12, _LLAMA2, 184_320, "A100"),
    "llama2-13b": _of("llama2-13b", 2023, 2.0e12, _LLAMA2, 368_640, "A100"),
    "llama2-70b": _of("llama2-70b", 2023, 2.0e12, _LLAMA2, 1_720_320, "A100"),
    "llama3.1-8b": _of("llama3-8b", 2024, 15e12, _LLAMA31, 1.46e6, "H100"),
    "llama3.1-70b": _of("llama3-70b", 2024, 15e12, _LLAMA31, 7.0e6, "H100"),
    "llama3.1-405b": _of("llama3-405b", 2024, 15.6e12, _LLAMA3, 30.84e6, "H100"),
    "qwen2.5-0.5b": _of("qwen2.5-0.5b", 2024, 18e12, _QWEN),
    "qwen2.5-72b": _of("qwen2.5-72b", 2024, 18e12, _QWEN),
    "deepseek-v3": _of(
        "deepseek-v3", 2024, 14.8e12, "DeepSeek-V3, 2024, arXiv:2412.19437, table 1 (H800)", 2.664e6, "H100"
    ),
    "smollm2-135m": _of("smollm2-135m", 2025, 2e12, _SMOL),
    "smollm2-1.7b": _of("smollm2-1.7b", 2025, 11e12, _SMOL),
}
