/** Which linear layers get an adapter, by PEFT's rules. */
import { UserError } from "../support/errors.js";
import { fullMatcher } from "../support/pattern.js";
import type { LoraConfig } from "./config.js";

/** A string is a regular expression for the whole path; a list holds paths or their endings. */
function matcher(rule: string | string[], option: string): (path: string) => boolean {
  if (typeof rule === "string") return fullMatcher(rule, option);
  return (path) => rule.some((name) => path === name || path.endsWith(`.${name}`));
}

/** The entries of rank_pattern or alpha_pattern by path: the first key counts that matches the end of it. */
export function patternValues(patterns: Record<string, number>, option: string): (path: string) => number | undefined {
  const entries = Object.entries(patterns).map(
    ([key, value]) => [fullMatcher(key, option, "(?:.*\\.)?"), value] as const,
  );
  return (path) => entries.find(([matches]) => matches(path))?.[1];
}

/**
 * The paths to adapt, in the model's order.
 * @param paths all linear layers; the output head is "lm_head"
 * @param where the options stand, for messages
 * @throws UserError when nothing matches, listing the names there are
 */
export function targetPaths(config: LoraConfig, paths: readonly string[], where = "lora."): string[] {
  const { target_modules: targets = null, exclude_modules: excluded, layers_to_transform: layers } = config;
  const rule = targets ?? ["q_proj", "v_proj"];
  const wantedLayers = layers === null || layers === undefined ? undefined : [layers].flat();
  const isExcluded = excluded ? matcher(excluded, `${where}exclude_modules`) : () => false;
  const isTarget = rule === "all-linear" ? undefined : matcher(rule, `${where}target_modules`);
  const chosen = paths.filter((path) => {
    if (isExcluded(path)) return false;
    if (isTarget === undefined) return path !== "lm_head";
    if (!isTarget(path)) return false;
    if (!wantedLayers) return true;
    const layer = /\.layers\.(\d+)\./.exec(path);
    return layer !== null && wantedLayers.includes(Number(layer[1]));
  });
  if (chosen.length === 0) {
    const names = [...new Set(paths.map((path) => path.slice(path.lastIndexOf(".") + 1)))];
    throw new UserError(
      `${where}target_modules: ${JSON.stringify(rule)} matches no linear layer of this model. Its layers are named ${names.join(", ")}; name some of them in a list, or use "all-linear".`,
    );
  }
  return chosen;
}
