/** Which parameters decay: the Trainer's rule. */
import type { WeightRole } from "../support/weightRole.js";

/** Biases and norms do not decay; embeddings, the head and LoRA's matrices do. */
export const decays = (role: WeightRole): boolean => role !== "bias" && role !== "norm";
