"""Logits of every model variant, and gradients of the two plain ones; everything in float32."""

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from .fixtures import VARIANTS, VOCAB
from .paths import FIXTURES, GOLDENS

BATCH, LENGTH = 2, 12
LONG = 200
# The last position of a long row is where RoPE scaling and large angles show most.
LONG_POSITIONS = [0, 1, 31, 63, 64, 100, 150, 199]
IGNORE = -100


def load(name: str):
    return AutoModelForCausalLM.from_pretrained(FIXTURES / name, dtype=torch.float32).eval()


def ids(seed: int, rows: int, length: int) -> torch.Tensor:
    """Token ids without the four special ones. [rows, length]"""
    return torch.randint(4, VOCAB, (rows, length), generator=torch.Generator().manual_seed(seed))


def forward_case(model, seed: int) -> dict[str, torch.Tensor]:
    short, long = ids(seed, BATCH, LENGTH), ids(seed + 1, 1, LONG)
    with torch.no_grad():
        # `short` is run first: dynamic scaling changes its frequencies once a row is longer than the model's positions.
        short_logits = model(short, use_cache=False).logits
        long_logits = model(long, use_cache=False).logits
    return {
        "input_ids": short,
        "logits": short_logits.contiguous(),
        "long_input_ids": long,
        "long_positions": torch.tensor(LONG_POSITIONS),
        "long_logits": long_logits[:, LONG_POSITIONS].contiguous(),
    }


def padded_case(model, seed: int) -> dict[str, torch.Tensor]:
    """A right-padded batch with labels, its mean loss and the gradient of every parameter."""
    input_ids = ids(seed, 3, LENGTH)
    lengths = [12, 7, 4]
    mask = torch.zeros_like(input_ids)
    labels = torch.full_like(input_ids, IGNORE)
    for row, length in enumerate(lengths):
        input_ids[row, length:] = 3  # <|pad|>
        mask[row, :length] = 1
        labels[row, 2:length] = input_ids[row, 2:length]
    model.zero_grad()
    loss = model(input_ids, attention_mask=mask, labels=labels, use_cache=False).loss
    loss.backward()
    grads = {f"grad.{name}": param.grad.contiguous() for name, param in model.named_parameters()}
    return {"input_ids": input_ids, "attention_mask": mask, "labels": labels, "loss": loss.detach(), **grads}


def make() -> None:
    folder = GOLDENS / "logits"
    folder.mkdir(exist_ok=True)
    for index, name in enumerate(VARIANTS):
        save_file(forward_case(load(name), 1000 + 10 * index), folder / f"{name}.safetensors")
    for index, name in enumerate(["tiny-llama", "tiny-llama-tied"]):
        save_file(padded_case(load(name), 2000 + index), folder / f"{name}.gradients.safetensors")
