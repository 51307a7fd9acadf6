"""Weights from their names: the same float32 numbers here and in tests/support/architectures.ts, so that no file holds them."""

import numpy as np
import torch

MASK = 0xFFFFFFFF


def seed_of(name: str) -> int:
    """FNV-1a over the name's bytes."""
    value = 2166136261
    for byte in name.encode():
        value = ((value ^ byte) * 16777619) & MASK
    return value


def unit(name: str, count: int) -> np.ndarray:
    """Numbers in [-1, 1) on a grid of 2^-23, exact in float32. [count]"""
    h = np.arange(count, dtype=np.uint32) * np.uint32(0x9E3779B9) + np.uint32(seed_of(name))
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        h = (h ^ (h >> np.uint32(shift))) * np.uint32(factor)
    h ^= h >> np.uint32(16)
    return (h >> np.uint32(8)).astype(np.float32) * np.float32(2**-23) - np.float32(1)


def weight(name: str, shape: list[int], around: float, spread: float) -> torch.Tensor:
    """around + spread · unit, rounded to float32 after each of the two."""
    values = np.float32(around) + np.float32(spread) * unit(name, int(np.prod(shape)))
    return torch.from_numpy(values.reshape(shape))
