import {
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  type ParsedNode,
  parseDocument,
  visit,
  type YAMLMap,
} from "yaml";
import { UserError } from "../support/errors.js";

export interface YamlFile {
  readonly data: Record<string, unknown>;
  /** Line (from 1) of the key at a path, or of the nearest of its parents that is in the file. */
  lineOf(path: readonly PropertyKey[]): number;
}

/** Keys of one mapping; the longest that means anything is rank_pattern, with an entry for each layer. */
const MAX_KEYS = 10_000;

/**
 * Reads a YAML (or JSON) text whose top level is a mapping.
 * @throws UserError with file and line when it is not YAML, has a key twice or is not a mapping.
 */
export function parseYaml(file: string, text: string): YamlFile {
  const counter = new LineCounter();
  const document = parseDocument(text, { lineCounter: counter, prettyErrors: false, uniqueKeys: false });
  const error = document.errors[0];
  if (error !== undefined) {
    throw new UserError(`${file}:${counter.linePos(error.pos[0]).line}: not valid YAML: ${error.message}`);
  }
  visit(document, {
    Map: (_, map) => {
      const found = keyProblem(map);
      if (found === undefined) return;
      const { line } = counter.linePos((found.at as Node).range![0]);
      throw new UserError(`${file}:${line}: not valid YAML: ${found.problem}`);
    },
  });
  const lineAt = (node: Node | null) => (node?.range ? counter.linePos(node.range[0]).line : 1);
  if (document.contents !== null && !isMap(document.contents)) {
    throw new UserError(
      `${file}:${lineAt(document.contents)}: expected keys such as "model: ...", found something else`,
    );
  }

  let data: Record<string, unknown>;
  try {
    data = (document.toJS() ?? {}) as Record<string, unknown>;
    JSON.stringify(data); // throws for an alias that contains itself
  } catch (problem) {
    throw new UserError(`${file}: not valid YAML: ${(problem as Error).message}`);
  }
  return { data, lineOf: (path) => findLine(document.contents, path, lineAt) };
}

/** A key that is there twice, found in one pass (the library compares each key with each), or one too many. */
function keyProblem({ items }: YAMLMap): { at: unknown; problem: string } | undefined {
  if (items.length > MAX_KEYS) {
    return { at: items[MAX_KEYS]!.key, problem: `a mapping has ${items.length} keys; the limit is ${MAX_KEYS}` };
  }
  const seen = new Set<unknown>();
  for (const { key } of items) {
    if (!isScalar(key)) continue;
    if (seen.has(key.value)) return { at: key, problem: `Map keys must be unique, but "${key.value}" is there twice` };
    seen.add(key.value);
  }
  return undefined;
}

function findLine(
  root: ParsedNode | null,
  path: readonly PropertyKey[],
  lineAt: (node: Node | null) => number,
): number {
  let line = lineAt(root);
  let node: unknown = root;
  for (const key of path) {
    if (isMap(node)) {
      const pair = node.items.find((item) => isScalar(item.key) && String(item.key.value) === String(key));
      if (pair === undefined) break;
      line = lineAt(pair.key as Node);
      node = pair.value;
    } else if (isSeq(node)) {
      const item = node.items[Number(key)];
      if (item === undefined) break;
      line = lineAt(item as Node);
      node = item;
    } else {
      break;
    }
  }
  return line;
}
