/** What `gradient_checkpointing` and its `gradient_checkpointing_kwargs` ask for. */
import { UserError } from "../support/errors.js";
import { didYouMean } from "../support/nearest.js";

interface CheckpointingArguments {
  gradient_checkpointing: boolean;
  /** Mapping, JSON text of one, or null. */
  gradient_checkpointing_kwargs: Record<string, unknown> | string | null;
}

const fail = (problem: string) => new UserError(`gradient_checkpointing_kwargs: ${problem}`);

/** What each option of Python's may be here, and why nothing else. */
const OPTIONS: Record<string, { accepts: (value: unknown) => boolean; reason: string }> = {
  every_n_layers: {
    accepts: (value) => Number.isInteger(value) && Number(value) >= 1,
    reason: "expected a whole number of at least 1",
  },
  use_reentrant: { accepts: (value) => typeof value === "boolean", reason: "expected true or false" },
  preserve_rng_state: { accepts: (value) => value === true, reason: "dropout is always replayed exactly; remove it" },
  offload: { accepts: (value) => value === false, reason: "what is kept stays on the device; remove it" },
};

/**
 * Layers 0, n, 2n, ... keep their input only; 0: none does. `use_reentrant` chooses between two ways of Python's and
 * means nothing here.
 * @throws UserError for an option that is unknown, or that cannot be had
 */
export function recomputeEvery(args: CheckpointingArguments): number {
  const options = optionsOf(args.gradient_checkpointing_kwargs);
  for (const [name, value] of Object.entries(options)) {
    const option = Object.hasOwn(OPTIONS, name) ? OPTIONS[name] : undefined;
    if (!option) throw fail(`unknown option "${name}"${didYouMean(name, Object.keys(OPTIONS))}`);
    if (!option.accepts(value)) throw fail(`${name} is ${JSON.stringify(value)}: ${option.reason}`);
  }
  return args.gradient_checkpointing ? Number(options.every_n_layers ?? 1) : 0;
}

function optionsOf(kwargs: CheckpointingArguments["gradient_checkpointing_kwargs"]): Record<string, unknown> {
  if (typeof kwargs !== "string") return kwargs ?? {};
  let parsed: unknown;
  try {
    parsed = JSON.parse(kwargs);
  } catch (error) {
    throw fail(`not a mapping or its JSON text: ${(error as Error).message}`);
  }
  if (typeof parsed === "object" && parsed !== null && !Array.isArray(parsed)) return parsed as Record<string, unknown>;
  throw fail(`expected a mapping, got ${kwargs}`);
}
