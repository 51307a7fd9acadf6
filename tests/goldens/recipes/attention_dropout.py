"""Attention with dropout on its weights, as transformers calls PyTorch's for a padded batch on the CPU."""

from types import SimpleNamespace

import torch
from safetensors.torch import save_file
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import (
    and_masks,
    causal_mask_function,
    packed_sequence_mask_function,
    sdpa_mask,
    sliding_window_causal_mask_function,
)

from .paths import GOLDENS

DIM, DROPOUT, SEED = 6, 0.3, 11

# name -> tokens of the rows' examples, heads, key heads, scale, window
CASES = {
    "whole": ([[6], [6]], 3, 3, None, None),
    "padded": ([[7], [3], [5]], 4, 2, 0.3, None),
    "window": ([[9], [4]], 2, 1, None, 3),
    "packed": ([[5, 7]], 2, 2, None, None),
}


def mask_of(rows: list[list[int]], width: int, window: int | None) -> torch.Tensor | None:
    """What transformers' mask for sdpa shows: None where causality says it all. [B, 1, T, T]"""
    see = sliding_window_causal_mask_function(window) if window else causal_mask_function
    if any(len(row) > 1 for row in rows):
        numbers = torch.tensor([[i for i, length in enumerate(row) for _ in range(length)] for row in rows])
        see = and_masks(see, packed_sequence_mask_function(numbers))
    elif not window and all(sum(row) == width for row in rows):
        return None
    real = torch.tensor([[i < sum(row) for i in range(width)] for row in rows])
    return sdpa_mask(len(rows), width, width, mask_function=see, attention_mask=real, allow_is_causal_skip=False, use_vmap=False)


def make() -> None:
    tensors = {}
    for index, (name, (rows, heads, kv_heads, scale, window)) in enumerate(CASES.items()):
        width = max(sum(row) for row in rows)
        torch.manual_seed(index)
        shape = lambda count: (len(rows), count, width, DIM)  # noqa: E731
        q, k, v = (torch.randn(shape(count), requires_grad=True) for count in (heads, kv_heads, kv_heads))
        d_out = torch.randn(len(rows), width, heads, DIM)
        module = SimpleNamespace(num_key_value_groups=heads // kv_heads, is_causal=True)
        torch.manual_seed(SEED)
        out, _ = sdpa_attention_forward(module, q, k, v, mask_of(rows, width, window), dropout=DROPOUT, scaling=scale)
        following = torch.rand(1)
        real = torch.tensor([[i < sum(row) for i in range(width)] for row in rows])
        out.backward(d_out * real[:, :, None, None])

        # The draws are one bernoulli over [B, heads, T, T].
        torch.manual_seed(SEED)
        kept = torch.empty(len(rows), heads, width, width).bernoulli_(1 - DROPOUT)
        assert torch.equal(torch.rand(1), following), name
        mask = mask_of(rows, width, window)
        seen = torch.ones(width, width, dtype=torch.bool).tril() if mask is None else mask
        group = lambda x: x.repeat_interleave(heads // kv_heads, 1)  # noqa: E731
        scores = q @ group(k).transpose(2, 3) * (scale or DIM**-0.5)
        weights = scores.masked_fill(~seen, -torch.inf).softmax(-1).nan_to_num()
        composed = (weights * kept / (1 - DROPOUT) @ group(v)).transpose(1, 2)
        torch.testing.assert_close(out[real], composed[real])

        tokens = lambda x: x.detach().transpose(1, 2)[real].contiguous()  # noqa: E731; [N, heads, D]
        tensors |= {f"{name}.{key}": tokens(x) for key, x in {"q": q, "k": k, "v": v, "dq": q.grad, "dk": k.grad, "dv": v.grad}.items()}
        tensors |= {f"{name}.out": out.detach()[real].contiguous(), f"{name}.d_out": d_out[real], f"{name}.next": following}
    save_file(tensors, GOLDENS / "attention-dropout.safetensors")
