/** The parts that most architectures are made of, by the names that transformers' classes have for them. */
import { UserError } from "../../support/errors.js";
import type {
  AttentionDescription,
  LayerDescription,
  LinearDescription,
  MlpDescription,
  ModelDescription,
  NormDescription,
} from "../description.js";
import type { Rope } from "../rope.js";
import type { DecoderConfig, LayerTypes } from "./fields.js";

export const linear = (path: string, input: number, out: number, bias = false): LinearDescription => ({
  path,
  in: input,
  out,
  bias,
});

export const rmsNorm = (path: string, size: number, eps: number, offset = 0): NormDescription => ({
  path,
  size,
  kind: "rms",
  eps,
  offset,
  bias: false,
});

export const layerNorm = (path: string, size: number, eps: number, bias = true): NormDescription => ({
  path,
  size,
  kind: "layer",
  eps,
  offset: 0,
  bias,
});

/**
 * How many heads there are, and of how many numbers.
 * @throws UserError for numbers that do not divide
 */
export function headsOf(config: DecoderConfig): { heads: number; kvHeads: number; headDim: number } {
  const { hidden_size: hidden, num_attention_heads: heads } = config;
  const kvHeads = config.num_key_value_heads ?? heads;
  if (heads % kvHeads !== 0) {
    throw new UserError(`num_attention_heads ${heads} is not a multiple of num_key_value_heads ${kvHeads}`);
  }
  const headDim = config.head_dim ?? hidden / heads;
  if (!Number.isInteger(headDim)) {
    throw new UserError(`hidden_size ${hidden} is not a multiple of num_attention_heads ${heads}`);
  }
  if (headDim % 2 !== 0) throw new UserError(`head_dim ${headDim} is not an even number`);
  return { heads, kvHeads, headDim };
}

/**
 * The token whose row of the embedding is not trained; a negative number counts from the end.
 * @throws UserError for one that there is not
 */
function paddingOf({ pad_token_id: id, vocab_size: vocab }: DecoderConfig): number | undefined {
  if (id === null) return undefined;
  const row = id < 0 ? vocab + id : id;
  if (row < 0 || row >= vocab)
    throw new UserError(`pad_token_id ${id} is not one of the ${vocab} tokens of vocab_size`);
  return row;
}

/** Which layers see a window only: what the config lists, or else the class's rule. */
export function slidingLayers(
  config: { num_hidden_layers: number; layer_types?: LayerTypes },
  rule: (layer: number) => boolean,
): boolean[] {
  const { num_hidden_layers: layers, layer_types: types } = config;
  if (!types) return Array.from({ length: layers }, (_, layer) => rule(layer));
  if (types.length !== layers) {
    throw new UserError(`layer_types has ${types.length} entries, num_hidden_layers is ${layers}`);
  }
  return types.map((type) => type === "sliding_attention");
}

/**
 * How many tokens each layer sees, itself among them; undefined: all of them.
 * @throws UserError where layers are to have a window, and the config has none
 */
export function windowsOf(
  config: { num_hidden_layers: number; layer_types?: LayerTypes; sliding_window: number | null },
  rule: (layer: number) => boolean,
): (number | undefined)[] {
  const { sliding_window: window } = config;
  return slidingLayers(config, rule).map((slides) => {
    if (slides && window === null) throw new UserError("sliding_window: there is none, and layers that need one");
    return slides ? window! : undefined;
  });
}

/** What an architecture does in another way than Llama. */
export interface Changes {
  /** Names of modules, where they are others. */
  names?: { layers?: string; attention?: string };
  /** The norms of the whole hidden size. */
  norm: (path: string, size: number) => NormDescription;
  rope?: Rope;
  /** Which linear layers have one; none where left out. */
  biases?: { qkv?: boolean; o?: boolean; mlp?: boolean; head?: boolean };
  /** Each gets the layer's number, the half's path and the layer's. */
  attention?: (layer: number, path: string, parent: string) => Partial<AttentionDescription>;
  mlp?: (layer: number, path: string, parent: string) => Partial<MlpDescription>;
  layer?: Partial<Pick<LayerDescription, "parallel" | "residualScale">>;
  embedding?: Partial<ModelDescription["embedding"]>;
  head?: Partial<Pick<ModelDescription["head"], "scale" | "softcap">>;
  defaultTargets?: string[];
}

/** A page's result: what `config.ts` adds is known without it. */
export type Described = Omit<ModelDescription, "text" | "modelType" | "spellings" | "others"> &
  Partial<Pick<ModelDescription, "spellings" | "others">>;

/**
 * A decoder with Llama's names and structure, but for the `changes`.
 * @param root the path of the module that holds embedding and layers
 */
export function llamaLike(config: DecoderConfig, root: string, changes: Changes): Described {
  const { hidden_size: hidden, intermediate_size: inner, vocab_size: vocab } = config;
  const { heads, kvHeads, headDim } = headsOf(config);
  const { names, norm, rope, biases = {} } = changes;
  const layers = Array.from({ length: config.num_hidden_layers }, (_, index): LayerDescription => {
    const path = `${root}.${names?.layers ?? "layers"}.${index}`;
    const [attention, mlp] = [`${path}.${names?.attention ?? "self_attn"}`, `${path}.mlp`];
    return {
      path,
      parallel: false,
      residualScale: 1,
      ...changes.layer,
      attention: {
        kind: "attention",
        norm: norm(`${path}.input_layernorm`, hidden),
        qkv: [
          linear(`${attention}.q_proj`, hidden, heads * headDim, biases.qkv),
          linear(`${attention}.k_proj`, hidden, kvHeads * headDim, biases.qkv),
          linear(`${attention}.v_proj`, hidden, kvHeads * headDim, biases.qkv),
        ],
        o: linear(`${attention}.o_proj`, heads * headDim, hidden, biases.o),
        heads,
        kvHeads,
        headDim,
        rope,
        dropout: 0,
        weightDropout: config.attention_dropout,
        ...changes.attention?.(index, attention, path),
      },
      mlp: {
        kind: "gated",
        norm: norm(`${path}.post_attention_layernorm`, hidden),
        inputs: [
          linear(`${mlp}.gate_proj`, hidden, inner, biases.mlp),
          linear(`${mlp}.up_proj`, hidden, inner, biases.mlp),
        ],
        down: linear(`${mlp}.down_proj`, inner, hidden, biases.mlp),
        size: inner,
        activation: config.hidden_act,
        dropout: 0,
        ...changes.mlp?.(index, mlp, path),
      },
    };
  });
  return {
    vocabSize: vocab,
    hiddenSize: hidden,
    maxPositions: config.max_position_embeddings,
    defaultTargets: changes.defaultTargets,
    embedding: { path: `${root}.embed_tokens`, scale: 1, dropout: 0, padding: paddingOf(config), ...changes.embedding },
    layers,
    finalNorm: norm(`${root}.norm`, hidden),
    head: {
      linear: linear("lm_head", hidden, vocab, biases.head),
      tied: config.tie_word_embeddings,
      scale: 1,
      ...changes.head,
    },
    eosTokenIds: [config.eos_token_id ?? []].flat(),
  };
}
