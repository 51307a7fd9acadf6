"""Fixtures: one byte-level BPE tokenizer and the tiny Llama folders that share it."""

import json
import shutil

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from .corpus import tokenizer_text, write_data
from .paths import FIXTURES, write_json

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
VOCAB = 384
CHAT_TEMPLATE = """\
{%- for message in messages %}
    {%- if message['role'] == 'assistant' %}
        {{- '<|im_start|>assistant\\n' }}
        {%- generation %}
        {{- message['content'] + '<|im_end|>' }}
        {%- endgeneration %}
        {{- '\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


def build_tokenizer() -> PreTrainedTokenizerFast:
    """GPT-2's byte-level BPE with single digits, as SmolLM2 and Llama 3 do; vocab 384 of which 256 are bytes."""
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tok.train_from_iterator(tokenizer_text(), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tok,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        unk_token="<|endoftext|>",
        model_max_length=256,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def with_bos(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The same vocabulary with a post-processor that puts BOS first, as Llama's tokenizers do."""
    bos = tokenizer.bos_token
    tokenizer._tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, tokenizer.bos_token_id)]
            ),
        ]
    )
    return tokenizer


def config(**changes) -> LlamaConfig:
    base = dict(
        vocab_size=VOCAB, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, rms_norm_eps=1e-5, rope_theta=10000.0,
        bos_token_id=1, eos_token_id=2, pad_token_id=3, tie_word_embeddings=False,
    )  # fmt: skip
    return LlamaConfig(**{**base, **changes})


SMALL = dict(hidden_size=32, intermediate_size=64, tie_word_embeddings=True)


def rope(**params) -> dict:
    return dict(SMALL, rope_parameters={"rope_theta": 10000.0, **params})


# name → (config changes, how it is stored)
VARIANTS = {
    "tiny-llama": ({}, {}),
    "tiny-llama-tied": ({"tie_word_embeddings": True}, {}),
    "tiny-llama-sharded": ({}, {"max_shard_size": "150KB", "legacy_config": True}),
    "tiny-llama-bf16": ({}, {"dtype": torch.bfloat16}),
    "tiny-llama-fp16": (dict(SMALL, tie_word_embeddings=False), {"dtype": torch.float16}),
    "tiny-llama-rope-llama3": (
        rope(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64),
        {"tokenizer": False},
    ),
    "tiny-llama-rope-linear": (rope(rope_type="linear", factor=4.0), {"tokenizer": False, "legacy_config": True}),
    "tiny-llama-rope-dynamic": (
        dict(rope(rope_type="dynamic", factor=2.0), max_position_embeddings=64),
        {"tokenizer": False},
    ),
    "tiny-llama-rope-yarn": (
        rope(rope_type="yarn", factor=4.0, original_max_position_embeddings=64),
        {"tokenizer": False, "legacy_config": True},
    ),
    "tiny-llama-bias": (dict(SMALL, attention_bias=True, mlp_bias=True), {"tokenizer": False}),
    "tiny-llama-head-dim": (dict(SMALL, head_dim=16), {"tokenizer": False}),
}


def fill(model: LlamaForCausalLM, seed: int) -> None:
    """Weights wide enough (std 0.2) that logits are far from flat; norms near 1; biases not zero."""
    gen = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, param in model.named_parameters():
            noise = torch.empty_like(param).normal_(generator=gen)
            param.copy_(1 + 0.1 * noise if "norm" in name else 0.2 * noise)


def legacy_config(folder) -> None:
    """The spelling of config.json before transformers 5, which most files on the hub have."""
    path = folder / "config.json"
    cfg = json.loads(path.read_text())
    params = cfg.pop("rope_parameters")
    cfg["rope_theta"] = params.pop("rope_theta")
    kind = params.pop("rope_type", "default")
    # "type" is the oldest name of "rope_type"; linear keeps it so that both are read.
    cfg["rope_scaling"] = None if kind == "default" else {"type" if kind == "linear" else "rope_type": kind, **params}
    cfg["torch_dtype"] = cfg.pop("dtype")
    path.write_text(json.dumps(cfg, indent=2) + "\n")


def make() -> None:
    write_data()
    tokenizer = build_tokenizer()
    assert len(tokenizer) == VOCAB, len(tokenizer)
    for index, (name, (changes, storage)) in enumerate(VARIANTS.items()):
        folder = FIXTURES / name
        shutil.rmtree(folder, ignore_errors=True)
        model = LlamaForCausalLM(config(**changes))
        fill(model, seed=100 + index)
        model = model.to(storage.get("dtype", torch.float32))
        extra = {"max_shard_size": storage["max_shard_size"]} if "max_shard_size" in storage else {}
        model.save_pretrained(folder, **extra)
        if storage.get("legacy_config"):
            legacy_config(folder)
        if storage.get("tokenizer", True):
            tokenizer.save_pretrained(folder)
    with_bos(tokenizer).save_pretrained(FIXTURES / "tokenizer-bos")
    write_json(FIXTURES / "variants.json", list(VARIANTS))
