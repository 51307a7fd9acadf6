/** What a weight is for. Weight decay, 8-bit states, quantization and "all-linear" go by it, never by names. */
export type WeightRole = "matrix" | "norm" | "bias" | "embedding" | "position";
