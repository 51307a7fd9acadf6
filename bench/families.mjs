/** Models of other architectures, of a size that a CPU trains in minutes; a family's config.json beside Llama's. */

const common = {
  bos_token_id: 0,
  eos_token_id: 0,
  pad_token_id: 0,
  initializer_range: 0.02,
  vocab_size: 49152,
};

export const families = {
  /** Qwen3-0.6B's layers, 8 of its 28. */
  qwen3: {
    ...common,
    architectures: ["Qwen3ForCausalLM"],
    model_type: "qwen3",
    hidden_size: 1024,
    intermediate_size: 3072,
    num_hidden_layers: 8,
    num_attention_heads: 16,
    num_key_value_heads: 8,
    head_dim: 128,
    max_position_embeddings: 40960,
    rms_norm_eps: 1e-6,
    rope_theta: 1_000_000,
    tie_word_embeddings: true,
  },
  /** Gemma 3 270M's layers with a smaller vocabulary. */
  gemma3: {
    ...common,
    architectures: ["Gemma3ForCausalLM"],
    model_type: "gemma3_text",
    hidden_size: 640,
    intermediate_size: 2048,
    num_hidden_layers: 18,
    num_attention_heads: 4,
    num_key_value_heads: 1,
    head_dim: 256,
    max_position_embeddings: 32768,
    query_pre_attn_scalar: 256,
    rms_norm_eps: 1e-6,
    sliding_window: 512,
    tie_word_embeddings: true,
  },
  /** Phi-3's structure at GPT-2's width. */
  phi3: {
    ...common,
    architectures: ["Phi3ForCausalLM"],
    model_type: "phi3",
    hidden_size: 768,
    intermediate_size: 2048,
    num_hidden_layers: 12,
    num_attention_heads: 12,
    num_key_value_heads: 12,
    max_position_embeddings: 4096,
    original_max_position_embeddings: 4096,
    rms_norm_eps: 1e-5,
    rope_theta: 10_000,
    tie_word_embeddings: false,
  },
  /** GPT-2, without its dropout. */
  gpt2: {
    ...common,
    architectures: ["GPT2LMHeadModel"],
    model_type: "gpt2",
    vocab_size: 50257,
    n_embd: 768,
    n_layer: 12,
    n_head: 12,
    n_positions: 1024,
    attn_pdrop: 0,
    embd_pdrop: 0,
    resid_pdrop: 0,
  },
};
