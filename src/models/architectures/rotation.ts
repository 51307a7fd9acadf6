/** A rotation from a config's rope parameters, checked. */
import { UserError } from "../../support/errors.js";
import type { Rope } from "../rope.js";
import type { RopeParameters } from "./fields.js";

/** The keys of a config that say how it turns. */
export interface RopeKeys {
  max_position_embeddings: number;
  rope_parameters?: RopeParameters | null;
  rope_scaling?: RopeParameters | null;
  rope_theta?: number | null;
  partial_rotary_factor?: number | null;
  original_max_position_embeddings?: number | null;
}

export interface RotationOptions {
  /** Of the class, where the config has none. */
  theta?: number;
  /** Share of a head that is turned, where the config has none. */
  share?: number;
  interleaved?: boolean;
  /** The class knows partial rotation: the rest of each head passes. Others can turn whole heads only. */
  partial?: boolean;
}

const TYPES = ["default", "linear", "dynamic", "yarn", "longrope", "llama3", "proportional"] as const;
const needsFactor = ["linear", "dynamic", "llama3"];

/** The one object of the two that says something. */
export function parametersOf({ rope_scaling: scaling, rope_parameters }: RopeKeys): RopeParameters {
  return (scaling && Object.keys(scaling).length > 0 ? scaling : rope_parameters) ?? {};
}

/**
 * @param given the parameters, where a config has several; by default the config's own
 * @throws UserError naming the parameter for what would be computed wrongly
 */
export function rotation(
  config: RopeKeys,
  headDim: number,
  options: RotationOptions = {},
  given?: RopeParameters,
): Rope {
  const { theta = 10_000, interleaved = false, partial = false } = options;
  const parameters = given ?? parametersOf(config);
  const type = (parameters.rope_type ?? parameters.type ?? "default") as (typeof TYPES)[number];
  const fail = (reason: string) => new UserError(`rope_parameters: ${reason}`);
  const nested = Object.keys(parameters).find((key) => key.endsWith("_attention"));
  if (nested) throw fail(`${nested}: this model type has one rotation for all of its layers`);
  if (!TYPES.includes(type)) throw fail(`rope_type '${type}' is not supported (known: ${TYPES.join(", ")})`);
  if (needsFactor.includes(type) && parameters.factor == null) throw fail(`rope_type '${type}' needs a factor`);
  const share = parameters.partial_rotary_factor ?? config.partial_rotary_factor ?? options.share ?? 1;
  const dim = type === "proportional" ? headDim : Math.floor(headDim * share);
  if (dim !== headDim && !partial) {
    throw fail(`partial_rotary_factor ${share} is not supported for this model type, which turns whole heads`);
  }
  if (dim < 2 || dim % 2 !== 0)
    throw fail(`${dim} of the ${headDim} numbers of a head are turned, which is not an even number`);
  const { max_position_embeddings: maxPositions } = config;
  // transformers prefers the one beside the parameters, where these are for all layers.
  const beside = given ? undefined : config.original_max_position_embeddings;
  const originalMaxPositions = beside ?? parameters.original_max_position_embeddings ?? maxPositions;
  if (type === "llama3" && (parameters.low_freq_factor === undefined || parameters.high_freq_factor === undefined)) {
    throw fail("rope_type 'llama3' needs low_freq_factor and high_freq_factor");
  }
  const [shortFactor, longFactor] = [parameters.short_factor ?? [], parameters.long_factor ?? []];
  for (const [name, list] of Object.entries({ short_factor: shortFactor, long_factor: longFactor })) {
    if (type !== "longrope" || list.length === dim / 2) continue;
    throw fail(
      `${name} has ${list.length} numbers, rope_type 'longrope' needs ${dim / 2}: half of what is turned of a head`,
    );
  }
  const extended = type === "yarn" || type === "longrope" ? maxPositions / originalMaxPositions : 1;
  return {
    type,
    dim,
    interleaved,
    theta: parameters.rope_theta ?? config.rope_theta ?? theta,
    factor: parameters.factor ?? extended,
    maxPositions,
    originalMaxPositions,
    lowFreqFactor: parameters.low_freq_factor ?? 1,
    highFreqFactor: parameters.high_freq_factor ?? 4,
    share,
    shortFactor,
    longFactor,
    attentionFactor: parameters.attention_factor ?? undefined,
    betaFast: parameters.beta_fast || 32,
    betaSlow: parameters.beta_slow || 1,
    mscale: parameters.mscale ?? undefined,
    mscaleAllDim: parameters.mscale_all_dim ?? undefined,
    truncate: parameters.truncate ?? true,
  };
}
