"""Tiny variants of every supported architecture: together they use every feature of its config class."""

VOCAB = 384
TOKENS = dict(bos_token_id=1, eos_token_id=2, pad_token_id=3)
BASE = dict(
    vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=256, **TOKENS,
)  # fmt: skip
# Shorter than the rows of the tests.
WINDOW = 8
FULL, SLIDING = "full_attention", "sliding_attention"
SHORT, LONG = [1.0, 1.1, 1.3, 1.7], [2.0, 3.5, 6.0, 9.0]


def rope(kind: str, theta: float = 10000.0, **params) -> dict:
    return {"rope_type": kind, "rope_theta": theta, **params}


def llama(**changes) -> tuple[str, dict]:
    return "llama", {"rms_norm_eps": 1e-5, "tie_word_embeddings": True, **changes}


YARN = dict(factor=4.0, original_max_position_embeddings=64)
LONGROPE = dict(short_factor=SHORT, long_factor=LONG, original_max_position_embeddings=64)
# 8 dimensions of a head, of which half turn.
HALF_LONGROPE = {**LONGROPE, "short_factor": SHORT[:2], "long_factor": LONG[:2]}
GPT2 = dict(vocab_size=VOCAB, n_positions=256, n_embd=32, n_layer=2, n_head=4, **TOKENS)
NO_DROPOUT = dict(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
GRANITE = dict(embedding_multiplier=6.0, logits_scaling=2.5, residual_multiplier=0.4, attention_multiplier=0.2)
MINISTRAL3_ROPE = {
    **rope("yarn", 1e4, **YARN, max_position_embeddings=256),
    **dict(beta_fast=32.0, beta_slow=1.0, mscale_all_dim=1.0, mscale=1.0, llama_4_scaling_beta=0.1),
}

# name → (model type, what differs from BASE). A key set to "absent" is left out of BASE.
VARIANTS: dict[str, tuple[str, dict]] = {
    "llama": llama(tie_word_embeddings=False, num_key_value_heads=4),
    "llama-bias": llama(attention_bias=True, mlp_bias=True, num_key_value_heads=1, hidden_act="gelu"),
    "llama-head-dim": llama(head_dim=16, hidden_act="relu2"),
    "llama-linear": llama(rope_parameters=rope("linear", factor=4.0)),
    "llama-dynamic": llama(rope_parameters=rope("dynamic", factor=2.0), max_position_embeddings=64),
    "llama-yarn": llama(rope_parameters=rope("yarn", **YARN)),
    "llama-yarn-mscale": llama(
        rope_parameters=rope("yarn", **YARN, mscale=0.8, mscale_all_dim=0.5, beta_fast=16.0, beta_slow=2.0, truncate=False)
    ),
    "llama-yarn-attention-factor": llama(rope_parameters=rope("yarn", **YARN, attention_factor=1.2)),
    "llama-llama3": llama(
        rope_parameters=rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)
    ),
    "llama-longrope": llama(rope_parameters=rope("longrope", **LONGROPE)),
    "llama-longrope-factor": llama(rope_parameters=rope("longrope", **LONGROPE, factor=2.0)),
    "llama-longrope-attention-factor": llama(rope_parameters=rope("longrope", **LONGROPE, attention_factor=1.3)),
    # Llama's own rotation takes whole heads; this kind alone turns a part of each.
    "llama-proportional": llama(rope_parameters=rope("proportional", factor=2.0, partial_rotary_factor=0.5), head_dim=16),
    "qwen2": ("qwen2", dict(tie_word_embeddings=True)),
    "qwen2-window": (
        "qwen2", dict(use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1, num_key_value_heads=1),
    ),
    "qwen2-layer-types": (
        "qwen2", dict(use_sliding_window=True, sliding_window=WINDOW, layer_types=[SLIDING, FULL], attention_dropout=0.1),
    ),
    "qwen3": ("qwen3", dict(head_dim=16, tie_word_embeddings=True)),
    "qwen3-window": (
        "qwen3",
        dict(head_dim=8, attention_bias=True, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1, num_key_value_heads=1),
    ),
    "gemma": ("gemma", dict(head_dim=16, num_key_value_heads=1)),
    "gemma-untied": ("gemma", dict(head_dim=8, attention_bias=True, tie_word_embeddings=False, hidden_act="gelu")),
    "gemma2": ("gemma2", dict(head_dim=16, query_pre_attn_scalar=24, sliding_window=WINDOW, attn_logit_softcapping=2.0, final_logit_softcapping=3.0)),
    "gemma2-plain": (
        "gemma2",
        dict(head_dim=8, query_pre_attn_scalar=8, sliding_window=WINDOW, layer_types=[FULL, SLIDING], attention_bias=True,
             tie_word_embeddings=False, attn_logit_softcapping=None, final_logit_softcapping=None),
    ),
    "gemma3-text": (
        "gemma3_text",
        dict(head_dim=16, query_pre_attn_scalar=24, sliding_window=WINDOW, num_hidden_layers=3, layer_types=[SLIDING, SLIDING, FULL],
             rope_parameters={FULL: rope("linear", 1e6, factor=8.0), SLIDING: rope("default", 1e4)}),
    ),
    "gemma3-text-soft-caps": (
        "gemma3_text",
        dict(head_dim=8, query_pre_attn_scalar=8, sliding_window=WINDOW, layer_types=[SLIDING, FULL], num_key_value_heads=1,
             attention_bias=True, attn_logit_softcapping=2.0, final_logit_softcapping=3.0, tie_word_embeddings=False),
    ),
    "mistral": ("mistral", dict(sliding_window=None, head_dim=16)),
    "mistral-window": ("mistral", dict(sliding_window=WINDOW, num_key_value_heads=1, tie_word_embeddings=True)),
    "ministral": ("ministral", dict(sliding_window=WINDOW, head_dim=8, layer_types=[SLIDING, FULL])),
    "ministral-window": ("ministral", dict(sliding_window=WINDOW, head_dim=16, tie_word_embeddings=True)),
    "ministral3": ("ministral3", dict(head_dim=16, rope_parameters=MINISTRAL3_ROPE)),
    "ministral3-window": (
        "ministral3",
        dict(head_dim=8, sliding_window=WINDOW, tie_word_embeddings=True, rope_parameters={**MINISTRAL3_ROPE, "llama_4_scaling_beta": 0.3}),
    ),
    "phi3": (
        "phi3",
        dict(original_max_position_embeddings=64, num_key_value_heads=4,
             rope_parameters=rope("longrope", partial_rotary_factor=0.5, **HALF_LONGROPE)),
    ),
    "phi3-window": ("phi3", dict(sliding_window=WINDOW, tie_word_embeddings=True)),
    "phi": ("phi", dict(num_attention_heads=2, num_key_value_heads=2)),
    "phi-qk-norm": ("phi", dict(num_key_value_heads=1, qk_layernorm=True, tie_word_embeddings=True, rope_parameters=rope("default", partial_rotary_factor=0.75))),
    "smollm3": ("smollm3", dict(num_hidden_layers=4, no_rope_layer_interval=2)),
    "smollm3-window": (
        "smollm3",
        dict(num_hidden_layers=3, no_rope_layers=[0, 1, 1], use_sliding_window=True, sliding_window=WINDOW, attention_bias=True,
             mlp_bias=True, layer_types=[SLIDING, FULL, SLIDING], tie_word_embeddings=False),
    ),
    "granite": ("granite", {**GRANITE, "tie_word_embeddings": True}),
    "granite-bias": ("granite", {**GRANITE, "attention_bias": True, "mlp_bias": True}),
    "olmo2": ("olmo2", dict(num_key_value_heads=4)),
    "olmo2-bias": ("olmo2", dict(num_key_value_heads=1, attention_bias=True, tie_word_embeddings=True)),
    "olmo3": ("olmo3", dict(num_hidden_layers=4, sliding_window=WINDOW)),
    "olmo3-yarn": (
        "olmo3",
        dict(sliding_window=WINDOW, layer_types=[FULL, SLIDING], attention_bias=True, tie_word_embeddings=True,
             rope_parameters={FULL: rope("yarn", 5e5, **YARN), SLIDING: rope("default", 5e5)}),
    ),
    # One scaling for all layers, as the published files have it: it is that of the full ones alone.
    "olmo3-full-yarn": (
        "olmo3",
        dict(num_hidden_layers=4, sliding_window=WINDOW, rope_parameters={FULL: rope("yarn", 5e5, **YARN), SLIDING: rope("default", 5e5)}),
    ),
    "gpt2": ("gpt2", dict(GPT2)),
    # Names without a prefix and masks among the weights, as the first checkpoints have them.
    "gpt2-published": ("gpt2", dict(GPT2, n_inner=48)),
    "gpt2-scaled": (
        "gpt2",
        {**GPT2, **NO_DROPOUT, "scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True, "activation_function": "relu",
         "tie_word_embeddings": False},
    ),
    "gpt2-unscaled": ("gpt2", dict(GPT2, scale_attn_weights=False, activation_function="gelu")),
    "gpt-neox": ("gpt_neox", dict(num_attention_heads=2)),
    "gpt-neox-serial": (
        "gpt_neox",
        dict(use_parallel_residual=False, attention_bias=False, tie_word_embeddings=True, hidden_dropout=0.1,
             rope_parameters=rope("default", partial_rotary_factor=1.0)),
    ),
    "stablelm": ("stablelm", dict(num_attention_heads=2, num_key_value_heads=1)),
    # qk_layernorm, of the 12 B model alone, is refused.
    "stablelm-parallel": (
        "stablelm",
        dict(num_attention_heads=2, use_qkv_bias=True, use_parallel_residual=True, tie_word_embeddings=True,
             rope_parameters=rope("default", partial_rotary_factor=0.5)),
    ),
    "starcoder2": ("starcoder2", dict(num_key_value_heads=1)),
    "starcoder2-window": ("starcoder2", dict(use_bias=False, sliding_window=WINDOW, tie_word_embeddings=False)),
    "exaone4": ("exaone4", dict(num_hidden_layers=4, sliding_window=WINDOW, sliding_window_pattern=2)),
    "exaone4-full": ("exaone4", dict(sliding_window=None, layer_types=[FULL, FULL], tie_word_embeddings=True)),
    "ernie4-5": ("ernie4_5", dict(head_dim=16, num_key_value_heads=1)),
    "ernie4-5-bias": ("ernie4_5", dict(head_dim=8, use_bias=True, tie_word_embeddings=False)),
    "hunyuan-v1-dense": ("hunyuan_v1_dense", dict(head_dim=16)),
    "hunyuan-v1-dense-alpha": (
        "hunyuan_v1_dense",
        dict(head_dim=8, attention_bias=True, num_key_value_heads=1, tie_word_embeddings=True,
             rope_parameters=rope("dynamic", alpha=1000.0, factor=1.0)),
    ),
    # Beyond its positions alpha does not count any more.
    "hunyuan-v1-dense-beyond": (
        "hunyuan_v1_dense",
        dict(head_dim=8, max_position_embeddings=64, rope_parameters=rope("dynamic", alpha=1000.0, factor=2.0)),
    ),
    # Its output projection is hidden_size square: heads · head_dim must be that.
    "helium": ("helium", dict(num_attention_heads=2, head_dim=16)),
    "helium-bias": ("helium", dict(head_dim=8, attention_bias=True, mlp_bias=True, num_key_value_heads=1, tie_word_embeddings=True)),
    "cohere2": ("cohere2", dict(num_hidden_layers=4, sliding_window=WINDOW, layer_types=[SLIDING, FULL, SLIDING, FULL], logit_scale=0.25)),
    "cohere2-bias": ("cohere2", dict(sliding_window=WINDOW, logit_scale=0.5, layer_types=[FULL, SLIDING], attention_bias=True, tie_word_embeddings=False)),
    "glm": ("glm", dict(head_dim=16, num_key_value_heads=1)),
    "glm-no-bias": (
        "glm",
        dict(head_dim=8, attention_bias=False, tie_word_embeddings=True, hidden_act="gelu", attention_dropout=0.1,
             rope_parameters=rope("linear", factor=2.0, partial_rotary_factor=0.75)),
    ),
    "gemma3": (
        "gemma3",
        dict(
            text_config={**BASE, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": WINDOW, "layer_types": [SLIDING, FULL]},
            vision_config=dict(hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14),
            mm_tokens_per_image=1, boi_token_index=381, eoi_token_index=382, image_token_index=383,
        ),
    ),
    "mistral3": (
        "mistral3",
        dict(
            text_config={**BASE, "model_type": "mistral", "head_dim": 16, "sliding_window": None},
            vision_config=dict(model_type="pixtral", hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
                               image_size=28, patch_size=14),
            image_token_index=383, tie_word_embeddings=False,
        ),
    ),
}  # fmt: skip

MULTIMODAL = ("gemma3", "mistral3")


def arguments(name: str) -> tuple[str, dict]:
    """The model type, and everything for its config class."""
    kind, changes = VARIANTS[name]
    return (kind, changes) if kind in (*MULTIMODAL, "gpt2") else (kind, {**BASE, **changes})


# Whole runs: name → what differs from the variant's config.
RUNS: dict[str, tuple[str, dict]] = {}
for _name in [
    "llama", "qwen2", "qwen3-window", "gemma", "gemma2", "gemma3-text", "mistral-window", "ministral", "ministral3", "phi3", "phi",
    "smollm3-window", "granite", "olmo2", "olmo3", "gpt2", "gpt-neox", "stablelm-parallel", "starcoder2", "exaone4", "ernie4-5",
    "hunyuan-v1-dense-alpha", "helium", "cohere2", "glm", "gemma3", "mistral3",
]:  # fmt: skip
    RUNS[_name] = (_name, NO_DROPOUT if _name == "gpt2" else {})
RUNS["gpt2-dropout"] = ("gpt2", {})
RUNS["phi-dropout"] = ("phi", dict(resid_pdrop=0.1, embd_pdrop=0.1, attention_dropout=0.1))
RUNS["starcoder2-dropout"] = ("starcoder2", dict(residual_dropout=0.1, embedding_dropout=0.1, attention_dropout=0.1))
RUNS["stablelm-dropout"] = ("stablelm", dict(hidden_dropout=0.1, attention_dropout=0.1))
