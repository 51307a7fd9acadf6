/** Which linear layers get an adapter, by PEFT's rules. */
import { UserError } from "../support/errors.js";
import type { LoraConfig } from "./config.js";

function pattern(source: string, option: string): RegExp {
  try {
    return new RegExp(`^(?:${source})$`);
  } catch (error) {
    throw new UserError(`lora.${option}: '${source}' is not a valid regular expression: ${(error as Error).message}`);
  }
}

/** A string is a regular expression for the whole path; a list holds paths or their endings. */
function matches(path: string, rule: string | string[], option: string): boolean {
  if (typeof rule === "string") return pattern(rule, option).test(path);
  return rule.some((name) => path === name || path.endsWith(`.${name}`));
}

/** The entry of rank_pattern or alpha_pattern for a path: the first key that matches the end of it. */
export function patternValue(patterns: Record<string, number>, path: string, option: string): number | undefined {
  for (const [key, value] of Object.entries(patterns)) {
    if (pattern(`(.*\\.)?(${key})`, option).test(path)) return value;
  }
  return undefined;
}

/**
 * The paths to adapt, in the model's order.
 * @param paths all linear layers; the output head is "lm_head"
 * @throws UserError when nothing matches, listing the names there are
 */
export function targetPaths(config: LoraConfig, paths: readonly string[]): string[] {
  const { target_modules: targets = null, exclude_modules: excluded, layers_to_transform: layers } = config;
  const rule = targets ?? ["q_proj", "v_proj"];
  const wantedLayers = layers === null || layers === undefined ? undefined : [layers].flat();
  const chosen = paths.filter((path) => {
    if (excluded && matches(path, excluded, "exclude_modules")) return false;
    if (rule === "all-linear") return path !== "lm_head";
    if (!matches(path, rule, "target_modules")) return false;
    if (!wantedLayers) return true;
    const layer = /\.layers\.(\d+)\./.exec(path);
    return layer !== null && wantedLayers.includes(Number(layer[1]));
  });
  if (chosen.length === 0) {
    const names = [...new Set(paths.map((path) => path.slice(path.lastIndexOf(".") + 1)))];
    throw new UserError(
      `lora.target_modules: ${JSON.stringify(rule)} matches no linear layer of this model. Its layers are named ${names.join(", ")}; name some of them in a list, or use "all-linear".`,
    );
  }
  return chosen;
}
