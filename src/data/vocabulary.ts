/** Whether the vocabulary of a tokenizer.json is one: each token has an id of its own, and merges make tokens that exist. */
import { UserError } from "../support/errors.js";
import { quoteName } from "../support/plainText.js";
import type { TokenizerJson } from "./tokenizerFiles.js";

/** No vocabulary comes near it, and an id beyond it would only make room for nothing. */
const MAX_ID = 2 ** 24;

/**
 * Id by token, of the vocabulary and the added tokens.
 * @throws UserError naming the file, the token and its id; Python's library would refuse such a file or renumber it
 */
export function checkVocabulary(json: TokenizerJson, file: string): Map<string, number> {
  const fail = (reason: string) => new UserError(`${file}: ${reason}. Copy the file again.`);
  const { model, added_tokens } = json;
  const tokens: string[] = []; // by id, with gaps
  const add = (list: string, token: string, id: unknown) => {
    if (!Number.isInteger(id) || (id as number) < 0 || (id as number) >= MAX_ID) {
      throw fail(
        `${list} gives ${quoteName(token)} the id ${shortJson(id)}, which is no whole number from 0 to ${MAX_ID - 1}`,
      );
    }
    const other = tokens[id as number];
    if (other !== undefined && other !== token) {
      throw fail(`${list} gives ${quoteName(token)} the id ${id}, which is that of ${quoteName(other)}`);
    }
    tokens[id as number] = token;
  };

  const ids = vocabularyOf(model, fail);
  if (ids.size === 0) throw fail("model.vocab is empty");
  for (const [token, id] of ids) add("model.vocab", token, id);
  for (const { content, id } of added_tokens) {
    const known = ids.get(content);
    if (known !== undefined && known !== id) {
      throw fail(`added_tokens gives ${quoteName(content)} the id ${id}, but model.vocab gives it ${known}`);
    }
    add("added_tokens", content, id);
  }
  checkMerges(model, ids, fail);
  for (const { content, id } of added_tokens) ids.set(content, id);
  return ids as Map<string, number>;
}

type Fail = (reason: string) => UserError;

/** Unigram lists [piece, score] in the order of ids; the others map pieces to ids. */
function vocabularyOf({ type, vocab }: TokenizerJson["model"], fail: Fail): Map<string, unknown> {
  const isList = Array.isArray(vocab);
  if (type !== undefined && isList !== (type === "Unigram")) {
    throw fail(
      `model.vocab is ${isList ? "a list" : "an object"}, which a tokenizer of the type ${shortJson(type)} has not`,
    );
  }
  if (!isList) return new Map<string, unknown>(Object.entries(vocab));
  const bad = vocab.findIndex(
    (entry) => !Array.isArray(entry) || typeof entry[0] !== "string" || !Number.isFinite(entry[1]),
  );
  if (bad >= 0) throw fail(`model.vocab[${bad}] is ${shortJson(vocab[bad])}, not a piece and its score`);
  return new Map(vocab.map(([piece], id) => [piece, id]));
}

function checkMerges({ type, merges, ...model }: TokenizerJson["model"], ids: Map<string, unknown>, fail: Fail): void {
  if (merges === undefined && type !== "BPE") return;
  if (!Array.isArray(merges)) throw fail("model.merges must be a list of pairs of tokens");
  const prefix = typeof model.continuing_subword_prefix === "string" ? model.continuing_subword_prefix.length : 0;
  for (const merge of merges as unknown[]) {
    const pair = typeof merge === "string" ? merge.split(" ") : merge;
    if (!Array.isArray(pair) || pair.length !== 2 || !pair.every((part) => typeof part === "string")) {
      throw fail(`model.merges has ${shortJson(merge)}, which is no pair of tokens`);
    }
    const [left, right] = pair as [string, string];
    const missing = [left, right, left + right.slice(prefix)].find((token) => !ids.has(token));
    if (missing !== undefined) {
      throw fail(`model.merges has ${shortJson(merge)}, but model.vocab has no token ${quoteName(missing)}`);
    }
  }
}

const shortJson = (value: unknown) => quoteName(JSON.stringify(value) ?? "nothing").slice(1, -1);
