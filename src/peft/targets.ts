/** Which linear layers get an adapter, by PEFT's rules. */
import { UserError } from "../support/errors.js";
import { fullMatcher } from "../support/pattern.js";
import type { LoraConfig } from "./config.js";

type Test = (path: string) => boolean;

/** A string is a regular expression for the whole path; a list holds paths or their endings. */
function matcher(rule: string | string[], option: string): Test {
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

/** The layers that modules_to_save trains in full; they get no adapter. */
function savedModules(config: LoraConfig, where: string): Test {
  const saved = (config.modules_to_save ?? []).map((name) =>
    fullMatcher(`(?:${name})(?:\\..*)?`, `${where}modules_to_save`, "(?:.*\\.)?"),
  );
  return (path) => saved.some((matches) => matches(path));
}

/** Whether a path's layer number is a wanted one: the first number in it, or the first that follows one of the patterns. */
function layerTest({ layers_to_transform: layers, layers_pattern }: LoraConfig, where: string): Test {
  const wanted = layers == null ? [] : [layers].flat();
  if (wanted.length === 0) return () => true;
  const patterns = (layers_pattern == null ? ["[^.]*"] : [layers_pattern].flat()).map((pattern) =>
    fullMatcher(pattern, `${where}layers_pattern`, layers_pattern == null ? ".*\\." : "(?:.*\\.)?"),
  );
  return (path) => {
    const parts = path.split(".");
    for (const matches of patterns) {
      const at = parts.findIndex(
        (part, i) => i < parts.length - 1 && /^\d+$/.test(part) && matches(parts.slice(0, i).join(".")),
      );
      if (at >= 0) return wanted.includes(Number(parts[at]));
    }
    return false;
  };
}

/** What a model offers to an adapter. */
export interface Targets {
  /** Paths of all linear layers, in the model's order. */
  linears: readonly string[];
  /** That of the output head. */
  head: string;
  embedding: string;
  /** What PEFT chooses where target_modules is absent; undefined: nothing. */
  defaults: readonly string[] | undefined;
}

/**
 * The paths to adapt, in the model's order.
 * @param where the options stand, for messages
 * @throws UserError when nothing matches, listing the names there are
 */
export function targetPaths(
  config: LoraConfig,
  { linears, head, embedding, defaults }: Targets,
  where = "lora.",
): string[] {
  const { target_modules: targets, exclude_modules: excluded } = config;
  const rule = targets ?? defaults?.slice();
  if (rule === undefined) {
    throw new UserError(
      `${where}target_modules: PEFT has no default for this kind of model. Name layers in a list, or use "all-linear".`,
    );
  }
  const all = typeof rule === "string" && rule.toLowerCase() === "all-linear";
  const isExcluded = excluded ? matcher(excluded, `${where}exclude_modules`) : () => false;
  const isSaved = savedModules(config, where);
  const isTarget = all ? (path: string) => path !== head : matcher(rule, `${where}target_modules`);
  const isInLayer = all ? () => true : layerTest(config, where);
  const wanted = (path: string) => !isExcluded(path) && !isSaved(path) && isTarget(path) && isInLayer(path);
  if (!all && wanted(embedding)) {
    throw new UserError(
      `${where}target_modules: ${JSON.stringify(rule)} names the embedding '${embedding}', which can have no adapter here. Train it in full with modules_to_save, or some of its rows with trainable_token_indices.`,
    );
  }
  const chosen = linears.filter(wanted);
  if (chosen.length === 0) {
    const names = [...new Set(linears.map((path) => path.slice(path.lastIndexOf(".") + 1)))];
    throw new UserError(
      `${where}target_modules: ${JSON.stringify(rule)} matches no linear layer of this model${excluded ? " that is not excluded" : ""}. Its layers are named ${names.join(", ")}; name some of them in a list, or use "all-linear".`,
    );
  }
  return chosen;
}
