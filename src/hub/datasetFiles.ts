/** Which files of a dataset repository belong to a configuration and a split: the rules of Python's `datasets`. */
import { parse } from "yaml";
import { UserError } from "../support/errors.js";

export interface DatasetChoice {
  /** Configuration of the dataset's card. Default: the only one, or the one marked as the default. */
  name?: string;
  /** Default: train. */
  split?: string;
}

const READABLE = /\.(jsonl|ndjson|json|csv)(\.gz)?$/i;
/** JSON files that describe a dataset and hold none of it. */
const DESCRIPTIONS = new Set([
  "dataset_info.json",
  "dataset_infos.json",
  "dataset_dict.json",
  "state.json",
  "config.json",
]);
/** A part of a path that hides what is below. */
const HIDDEN = /(^|\/)(\.|__)/;

const SPLIT_WORDS: Record<string, readonly string[]> = {
  train: ["train", "training"],
  validation: ["validation", "valid", "dev", "val"],
  test: ["test", "testing", "eval", "evaluation"],
};

/** Matches with at most one step back per item, so that no pattern from a card can make it slow. */
function matchSequence<P, S>(
  pattern: readonly P[],
  items: readonly S[],
  many: P,
  same: (p: P, item: S) => boolean,
): boolean {
  let p = 0;
  let i = 0;
  let lastMany = -1;
  let resumeAt = 0;
  while (i < items.length) {
    if (p < pattern.length && pattern[p] === many) {
      lastMany = p++;
      resumeAt = i;
    } else if (p < pattern.length && same(pattern[p]!, items[i]!)) {
      p++;
      i++;
    } else if (lastMany >= 0) {
      p = lastMany + 1;
      i = ++resumeAt;
    } else return false;
  }
  return pattern.slice(p).every((rest) => rest === many);
}

/** `*` and `?` within one part of the path, `**` for any number of parts. */
export function matchesPattern(pattern: string, path: string): boolean {
  const matchPart = (part: string, name: string) =>
    matchSequence([...part], [...name], "*", (p, character) => p === "?" || p === character);
  return matchSequence(pattern.replace(/^\.\//, "").split("/"), path.split("/"), "**", matchPart);
}

interface CardConfig {
  name: string;
  isDefault: boolean;
  folder: string;
  /** Split to patterns; undefined when the card leaves it to the files' names. */
  patterns?: Map<string, string[]>;
}

const asList = (value: unknown): unknown[] => (Array.isArray(value) ? value : [value]);

/** Patterns per split of a card's `data_files`: text, a list of texts, or a list of {split, path}. */
function readPatterns(dataFiles: unknown): Map<string, string[]> {
  const patterns = new Map<string, string[]>();
  for (const item of asList(dataFiles)) {
    const { split, path } = typeof item === "object" && item !== null ? (item as Record<string, unknown>) : {};
    const texts = asList(path ?? item).filter((text) => typeof text === "string");
    const name = typeof split === "string" ? split : "train";
    patterns.set(name, [...(patterns.get(name) ?? []), ...texts]);
  }
  return patterns;
}

/** The `configs` of the YAML at the top of a dataset's README.md. */
function readCard(readme: string): CardConfig[] {
  const front = /^\ufeff?---\r?\n([\s\S]*?)\r?\n---\s*(\r?\n|$)/.exec(readme)?.[1];
  if (front === undefined) return [];
  let card: unknown;
  try {
    card = parse(front, { uniqueKeys: false }); // the check compares each key with each
  } catch {
    return []; // as good as no card: the files' names decide
  }
  const configs = (card as { configs?: unknown } | null)?.configs;
  if (!Array.isArray(configs)) return [];
  return configs
    .filter((config): config is Record<string, unknown> => typeof config === "object" && config !== null)
    .map((config) => ({
      name: String(config.config_name ?? "default"),
      isDefault: config.default === true || config.config_name === "default",
      folder: typeof config.data_dir === "string" ? `${config.data_dir.replace(/^\.?\/+|\/+$/g, "")}/` : "",
      patterns: config.data_files === undefined ? undefined : readPatterns(config.data_files),
    }));
}

function chooseConfig(id: string, configs: readonly CardConfig[], name: string | undefined): CardConfig | undefined {
  const names = configs.map((config) => config.name).join(", ");
  if (name !== undefined) {
    const chosen = configs.find((config) => config.name === name);
    if (chosen !== undefined) return chosen;
    const there = configs.length === 0 ? "it has none" : `it has ${names}`;
    throw new UserError(`The dataset ${id} has no configuration "${name}" (dataset.name): ${there}.`);
  }
  if (configs.length <= 1) return configs[0];
  const chosen = configs.find((config) => config.isDefault);
  if (chosen === undefined)
    throw new UserError(`The dataset ${id} has several configurations; set dataset.name to one of ${names}.`);
  return chosen;
}

/** The split that a text names as a whole word. */
function splitNamedIn(text: string): string | undefined {
  const words = text.toLowerCase().split(/[-._ 0-9/]+/);
  return Object.keys(SPLIT_WORDS).find((split) => SPLIT_WORDS[split]!.some((word) => words.includes(word)));
}

/** Splits by the names of the files, else by those of their folders; without any such name, everything is train. */
function splitByName(paths: readonly string[]): Map<string, string[]> {
  const group = (splitOf: (path: string) => string | undefined) => {
    const splits = new Map<string, string[]>();
    for (const path of paths) {
      const split = splitOf(path);
      if (split !== undefined) splits.set(split, [...(splits.get(split) ?? []), path]);
    }
    return splits;
  };
  const byShard = group((path) => /^data\/([\w.]+)-\d{5}-of-\d{5}[^/]*$/.exec(path)?.[1]);
  if (byShard.size > 0) return byShard;
  const byFile = group((path) => splitNamedIn(path.slice(path.lastIndexOf("/") + 1)));
  if (byFile.size > 0) return byFile;
  const byFolder = group((path) => splitNamedIn(path.slice(0, Math.max(0, path.lastIndexOf("/")))));
  return byFolder.size > 0 ? byFolder : new Map([["train", [...paths]]]);
}

/**
 * Chooses among a repository's files.
 * @param id the dataset's name, for messages
 * @param readme the text of README.md, if there is one
 * @returns relative paths, sorted
 * @throws UserError naming what there is, when the configuration, the split or a readable file is missing
 */
export function selectDataFiles(
  id: string,
  paths: readonly string[],
  readme: string | undefined,
  { name, split = "train" }: DatasetChoice,
): string[] {
  const config = chooseConfig(id, readme === undefined ? [] : readCard(readme), name);
  const visible = paths.filter((path) => !HIDDEN.test(path) && path.startsWith(config?.folder ?? ""));
  const isData = (path: string) => READABLE.test(path) && !DESCRIPTIONS.has(path.slice(path.lastIndexOf("/") + 1));
  const data = visible.filter(isData);
  const json = data.filter((path) => !/\.csv(\.gz)?$/i.test(path));
  const readable = json.length > 0 ? json : data; // a table beside JSON holds the same rows once more

  let splits: Map<string, string[]>;
  let listed = visible;
  if (config?.patterns === undefined) splits = splitByName(readable);
  else {
    const { folder, patterns } = config;
    const matching = (from: readonly string[], list: readonly string[]) =>
      from.filter((path) => list.some((pattern) => matchesPattern(`${folder}${pattern.replace(/^\.\//, "")}`, path)));
    splits = new Map([...patterns].map(([key, list]) => [key, matching(readable, list)]));
    listed = matching(visible, patterns.get(split) ?? []);
  }
  const files = splits.get(split) ?? [];
  if (files.length > 0) return [...files].sort();

  const others = [...new Set(listed.map((path) => /\.(parquet|csv|tsv|txt|arrow|zip|tar|gz|zst)$/i.exec(path)?.[0]))];
  const formats = others.filter((extension) => extension !== undefined);
  const available = [...splits.keys()];
  if (readable.length === 0 || available.includes(split)) {
    const found = formats.length === 0 ? "no data files" : `${formats.join(", ")} files`;
    throw new UserError(
      `The dataset ${id} has ${found}, but slimtune reads .jsonl, .json and .csv. In Python, ` +
        `\`load_dataset("${id}", split="${split}").to_json("data.jsonl")\` writes a file to give as the dataset's path.`,
    );
  }
  throw new UserError(`The dataset ${id} has no split "${split}" (dataset.split): it has ${available.join(", ")}.`);
}
