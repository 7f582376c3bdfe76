"""A tiny language model with known answers, trained on the spot, for engines that have no GPU.

Below `$NIGHTSHIFT_HOME/models` lie `tiny`, `tiny-damaged`, `tiny-lora-elsewhere`, `tiny-lora-rotated` (adapters with
other answers), `tiny-lora-wrong-shape`, `tiny-lora-wrong-rank` (adapters to refuse), `golden.jsonl` and `scores.json`.
"""
