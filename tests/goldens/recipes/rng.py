"""The state of PyTorch's global CPU generator, as one number."""

import torch


def next_draw() -> int:
    """What the global generator would give next, without moving it: a fingerprint of its state."""
    state = torch.get_rng_state()
    value = torch.empty((), dtype=torch.int64).random_().item()
    torch.set_rng_state(state)
    return value
