"""config.json as transformers 4 spelled it, which is how most checkpoints have it: the same model by other keys."""

FULL, SLIDING = "full_attention", "sliding_attention"
# Variants whose old spelling is written beside the new one.
LEGACY = [
    "llama-linear", "llama-yarn", "llama-llama3", "llama-longrope", "qwen2-window", "qwen3", "gemma2", "gemma3-text", "mistral-window",
    "phi3", "phi", "smollm3", "granite", "olmo2", "olmo3-full-yarn", "gpt2", "gpt-neox", "stablelm-parallel", "starcoder2", "exaone4",
    "ernie4-5", "hunyuan-v1-dense-alpha", "helium", "cohere2", "glm-no-bias", "gemma3",
]  # fmt: skip


def scaling(parameters: dict, oldest: bool) -> dict | None:
    """What is left of rope_parameters for rope_scaling."""
    kind = parameters["rope_type"]
    rest = {key: value for key, value in parameters.items() if key not in ("rope_type", "rope_theta", "partial_rotary_factor")}
    return None if kind == "default" else {"type" if oldest else "rope_type": kind, **rest}


def legacy(config: dict, kind: str) -> dict:
    config = dict(config)
    if "text_config" in config:
        return {**config, "text_config": legacy(config["text_config"], config["text_config"]["model_type"])}
    if "dtype" in config:
        config["torch_dtype"] = config.pop("dtype")
    layer_types = config.pop("layer_types", None)
    parameters = config.pop("rope_parameters", None)
    if parameters is None:
        return config
    if kind == "gemma3_text":
        config["rope_local_base_freq"] = parameters[SLIDING]["rope_theta"]
        config["sliding_window_pattern"] = layer_types.index(FULL) + 1
        parameters = parameters[FULL]
    if kind == "olmo3":
        parameters = parameters[FULL]
    if kind == "cohere2":
        config["sliding_window_pattern"] = layer_types.index(FULL) + 1
    theta, partial = parameters["rope_theta"], parameters.get("partial_rotary_factor")
    if kind == "gpt_neox":
        config.update(rotary_emb_base=theta, rotary_pct=partial)
    else:
        config["rope_theta"] = theta
        if partial is not None:
            config["partial_rotary_factor"] = partial
    config["rope_scaling"] = scaling(parameters, oldest=kind in ("phi3", "hunyuan_v1_dense"))
    if kind == "phi3" and config["rope_scaling"]:  # it stands beside, not inside
        config["rope_scaling"].pop("original_max_position_embeddings")
    return config
