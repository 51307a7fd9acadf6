"""Quantized weights: bitsandbytes' codes, magnitudes and values, in 4 bits and in 8."""

import contextlib
import functools

import bitsandbytes.functional as F
import torch
from safetensors.torch import save_file

from .paths import GOLDENS


@contextlib.contextmanager
def reference_kernels():
    """8-bit codes by bitsandbytes' reference kernel, which takes the nearest value as its CUDA kernel does; its CPU
    library looks values up in a table that is exact to about 3e-5 only."""
    packet = torch.ops.bitsandbytes.quantize_blockwise
    fast, reference = packet.default, torch._C.DispatchKeySet(torch._C.DispatchKey.CompositeExplicitAutograd)
    packet.default = functools.partial(fast.redispatch, reference)
    try:
        yield
    finally:
        packet.default = fast


def weights() -> dict[str, torch.Tensor]:
    """`wide`: more than 256 blocks, the last one ragged, whose magnitudes add up exactly in any order; `ragged`: small,
    blocks across rows, the last one not whole. Each has a block of zeros."""
    gen = torch.Generator().manual_seed(11)
    wide = torch.randn(161, 130, generator=gen).clamp(-3.5, 3.5) * 2.0 ** -torch.randint(4, 8, (161, 1), generator=gen)
    ragged = torch.randn(33, 50, generator=gen) * 0.02
    wide.view(-1)[64:128] = 0
    ragged.view(-1)[128:192] = 0
    return {"wide": wide.bfloat16().float(), "ragged": ragged}


def make() -> None:
    golden = {}
    for name, weight in weights().items():
        # the numbers of `wide` are bf16's: half the bytes
        golden[name] = weight.bfloat16() if name == "wide" else weight
        for kind in ("nf4", "fp4"):
            packed, state = F.quantize_4bit(weight, quant_type=kind)
            with reference_kernels():
                _, double = F.quantize_4bit(weight, quant_type=kind, compress_statistics=True)
            golden[f"{name}.{kind}.codes"] = packed.view(weight.shape[0], -1)
            golden[f"{name}.{kind}.values"] = state.code
            golden[f"{name}.magnitudes"] = state.absmax
            golden[f"{name}.double.codes"] = double.absmax
            golden[f"{name}.double.magnitudes"] = double.state2.absmax
            golden[f"{name}.double.values"] = double.state2.code
            golden[f"{name}.double.offset"] = double.offset.reshape(1)
            if name == "ragged":
                golden[f"{name}.{kind}.dequantized"] = F.dequantize_4bit(packed, state)
                golden[f"{name}.{kind}.double.dequantized"] = F.dequantize_4bit(packed, double)
        codes, rows, _ = F.int8_vectorwise_quant(weight.half())
        golden[f"{name}.int8.codes"] = codes
        golden[f"{name}.int8.magnitudes"] = rows
        if name == "ragged":  # as MatMul8bitFp, the product on CPUs, makes it
            golden[f"{name}.int8.dequantized"] = codes.float().mul_(rows.unsqueeze(1).mul(1.0 / 127.0))
    # a copy of each: several are views of one another
    save_file({key: value.contiguous().clone() for key, value in golden.items()}, GOLDENS / "quantization.safetensors")
