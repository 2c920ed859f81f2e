"""How the shipped checkpoints were made. Each can be made again: ``python -m llmlab.recipes.NAME``."""
