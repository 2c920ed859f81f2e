"""How good is it, and how sure can we be: accuracy and its relatives, intervals, paired tests, calibration."""

from llmlab.metrics.calibration import (
    brier_score,
    expected_calibration_error,
    fit_temperature,
    log_loss,
    reliability,
    with_temperature,
)
from llmlab.metrics.classification import Confusion, accuracy, confusion, f1_score, roc_auc
from llmlab.metrics.selective import RiskCoverage, Uncertainty, ensemble_uncertainty, risk_coverage
from llmlab.metrics.uncertainty import PairedTest, bootstrap_interval, mcnemar, wilson_interval

__all__ = [
    "Confusion",
    "PairedTest",
    "RiskCoverage",
    "Uncertainty",
    "accuracy",
    "bootstrap_interval",
    "brier_score",
    "confusion",
    "ensemble_uncertainty",
    "expected_calibration_error",
    "f1_score",
    "fit_temperature",
    "log_loss",
    "mcnemar",
    "reliability",
    "risk_coverage",
    "roc_auc",
    "wilson_interval",
    "with_temperature",
]
