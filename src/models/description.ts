/**
 * What a model is made of. A page for each architecture (architectures/) gives it from config.json; the decoder, the loader,
 * the adapters and the optimizers read nothing else, so that none of them knows a model by its name.
 */
import type { WeightRole } from "../support/weightRole.js";
import type { Activation } from "../torch/fused.js";
import type { Rope } from "./rope.js";

/** A linear layer; one adapter each, as PEFT has it. Its weight is [out, in], or [in, out] where it is `transposed` (Conv1D). */
export interface LinearDescription {
  path: string;
  in: number;
  out: number;
  bias: boolean;
  transposed?: boolean;
}

/** y = x̂ · (weight + offset) + bias over `size` numbers. x̂ is x / rms(x), or (x - mean) / deviation for "layer". */
export interface NormDescription {
  path: string;
  size: number;
  kind: "rms" | "layer";
  eps: number;
  /** 1 where the weights are stored as differences from 1. */
  offset: number;
  bias: boolean;
}

/** What the two halves of a layer have in common: x + residualScale · dropout(postNorm(f(norm(x)))). */
interface Half {
  norm?: NormDescription;
  postNorm?: NormDescription;
  /** Dropout of the model's own on what the half adds, while training. */
  dropout: number;
}

/** Room for mixers of other kinds. */
export interface AttentionDescription extends Half {
  kind: "attention";
  /** q, k and v apart, or one layer for all three. */
  qkv: LinearDescription[];
  /** How the rows of one layer for all three lie: all of q, then k, then v; or q, k and v of one head after the other. */
  joined?: "by part" | "by head";
  o: LinearDescription;
  /** `o` is made before `qkv` in Python, so that its adapter's weights are drawn first. */
  oFirst?: boolean;
  heads: number;
  kvHeads: number;
  headDim: number;
  /** Scores are q·kᵀ times this, by default 1/√headDim. */
  scale?: number;
  /** Scores become c·tanh(score / c). */
  softcap?: number;
  /** A token sees this many, itself among them. */
  window?: number;
  rope?: Rope;
  /** Norms of q and k: of each head before it is turned, after it, or of all heads together before. */
  qkNorm?: { q: NormDescription; k: NormDescription; over: "each head" | "each turned head" | "all heads" };
  /** q is multiplied by 1 + beta · ln(1 + ⌊position / every⌋). */
  queryScale?: { beta: number; every: number };
  /** Dropout on the attention's weights. */
  weightDropout: number;
}

/** act(gate)·up, or act(up) for the plain kind; then `down`. */
export interface MlpDescription extends Half {
  kind: "gated" | "plain";
  /** gate and up, or one layer for both, gate first; the one layer of the plain kind. */
  inputs: LinearDescription[];
  down: LinearDescription;
  /** Numbers between the layers. */
  size: number;
  activation: Activation;
}

export interface LayerDescription {
  path: string;
  attention: AttentionDescription;
  mlp: MlpDescription;
  /** Both halves read the layer's input; otherwise the MLP reads what the attention has added to it. */
  parallel: boolean;
  residualScale: number;
}

export interface ModelDescription {
  modelType: string;
  vocabSize: number;
  hiddenSize: number;
  maxPositions: number;
  /** PEFT's targets for an adapter that names none; undefined: PEFT has none, so that they must be named. */
  defaultTargets?: string[];
  embedding: {
    path: string;
    /** Its rows are multiplied by this. */
    scale: number;
    /** In Python the model does so, and not the embedding's module: after NEFTune's noise. */
    scaledAfter?: boolean;
    dropout: number;
    /** This token's row gets no gradient: PyTorch's padding_idx. */
    padding?: number;
    /** Learned positions: how many there are. */
    positions?: { path: string; count: number };
  };
  layers: LayerDescription[];
  finalNorm: NormDescription;
  /** Logits are softcap(scale · (W·x + bias)). */
  head: { linear: LinearDescription; tied: boolean; scale: number; softcap?: number };
  eosTokenIds: number[];
  /** How the files may spell weights' names: one of these for each name that begins with the first of a pair. */
  spellings: Spelling[];
  /** Weights of the files that are not the text model's: carried along, or to be left out where transformers does so. */
  others?: { carried?: RegExp; ignored?: RegExp };
  /** The config as it was read, for writing a trained model's folder. */
  text: string;
}

/** Prefixes of weights' names in Python and what stands in their place in a file. */
export type Spelling = readonly (readonly [prefix: string, stored: string])[];

/** The linear layers of a layer, in the order in which Python makes them. */
export function linearsOf({ attention, mlp }: LayerDescription): LinearDescription[] {
  const { qkv, o, oFirst } = attention;
  return [...(oFirst ? [o, ...qkv] : [...qkv, o]), ...mlp.inputs, mlp.down];
}

/** The norms of a layer, each once. */
export function normsOf({ attention, mlp }: LayerDescription): NormDescription[] {
  const { qkNorm } = attention;
  const norms = [qkNorm?.q, qkNorm?.k, attention.norm, attention.postNorm, mlp.norm, mlp.postNorm];
  const byPath = new Map(norms.flatMap((norm) => (norm ? [[norm.path, norm] as const] : [])));
  return [...byPath.values()];
}

export interface WeightDescription {
  name: string;
  role: WeightRole;
  shape: number[];
}

/** Every weight, a tied head's not again. */
export function weightsOf(description: ModelDescription): WeightDescription[] {
  const { embedding, layers, finalNorm, head, vocabSize, hiddenSize } = description;
  const of = (path: string, role: WeightRole, shape: number[]) => ({ name: `${path}.weight`, role, shape });
  const biasOf = (path: string, size: number) => ({ name: `${path}.bias`, role: "bias" as const, shape: [size] });
  const linear = ({ path, in: input, out, bias, transposed }: LinearDescription) => [
    of(path, "matrix", transposed ? [input, out] : [out, input]),
    ...(bias ? [biasOf(path, out)] : []),
  ];
  const norm = ({ path, size, bias }: NormDescription) => [
    of(path, "norm", [size]),
    ...(bias ? [biasOf(path, size)] : []),
  ];
  const { positions } = embedding;
  return [
    of(embedding.path, "embedding", [vocabSize, hiddenSize]),
    ...(positions ? [of(positions.path, "position", [positions.count, hiddenSize])] : []),
    ...layers.flatMap((layer) => [...linearsOf(layer).flatMap(linear), ...normsOf(layer).flatMap(norm)]),
    ...norm(finalNorm),
    ...linear(head.linear).filter(({ role }) => !(head.tied && role === "matrix")),
  ];
}

/** Whether the model has dropout of its own, which training draws. */
export function hasDropout({ embedding, layers }: ModelDescription): boolean {
  const drops = ({ attention, mlp }: LayerDescription) => attention.dropout + attention.weightDropout + mlp.dropout > 0;
  return embedding.dropout > 0 || layers.some(drops);
}
