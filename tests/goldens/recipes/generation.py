"""Greedy continuations by transformers' generate, with and without the saved adapter."""

import torch
from peft import PeftModel
from transformers import AutoTokenizer

from .logits import load
from .paths import FIXTURES, GOLDENS, write_json

PROMPTS = ["Ada took two maps to", "Where? Chloé took 12 apples to Lima.\n"]
NEW_TOKENS = 20


def greedy(model, tokenizer, prompt: str) -> dict:
    inputs = tokenizer(prompt, return_tensors="pt")
    with torch.no_grad():
        out = model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)
    count = inputs["input_ids"].shape[1]
    new = out[0, count:].tolist()
    return {"prompt": prompt, "input_ids": inputs["input_ids"][0].tolist(), "new_ids": new, "text": tokenizer.decode(new)}


def make() -> None:
    tokenizer = AutoTokenizer.from_pretrained(FIXTURES / "tiny-llama")
    adapted = PeftModel.from_pretrained(load("tiny-llama"), FIXTURES / "tiny-llama-adapter").eval()
    models = {"tiny-llama": load("tiny-llama"), "tiny-llama-tied": load("tiny-llama-tied"), "tiny-llama-adapter": adapted}
    write_json(
        GOLDENS / "generation.json",
        {
            "max_new_tokens": NEW_TOKENS,
            "cases": {name: [greedy(model, tokenizer, prompt) for prompt in PROMPTS] for name, model in models.items()},
        },
    )
