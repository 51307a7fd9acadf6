import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { UserError } from "../support/errors.js";
import { Tokenizer } from "./tokenizer.js";

const fixture = fileURLToPath(new URL("../../tests/fixtures/tiny-llama", import.meta.url));
const user = { role: "user", content: "hi" };
let root: string;
let count = 0;
/** A copy of the fixture's tokenizer files with some of them replaced, or removed by null. */
async function folderWith(files: Record<string, string | object | null>): Promise<string> {
  const folder = path.join(root, String(count++));
  await mkdir(path.join(folder, "additional_chat_templates"), { recursive: true });
  for (const name of ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]) {
    await cp(path.join(fixture, name), path.join(folder, name));
  }
  for (const [name, content] of Object.entries(files)) {
    const file = path.join(folder, name);
    if (content === null) await rm(file);
    else await writeFile(file, typeof content === "string" ? content : JSON.stringify(content));
  }
  return folder;
}
const loadWith = async (files: Record<string, string | object | null>) => Tokenizer.load(await folderWith(files));
const failure = async (folder: string): Promise<string> => {
  const error = await Tokenizer.load(folder).catch((error: unknown) => error);
  expect(error).toBeInstanceOf(UserError);
  return (error as UserError).message.replaceAll(root, "");
};

beforeAll(async () => {
  root = await mkdtemp(path.join(tmpdir(), "slimtune-tokenizer-"));
});
afterAll(() => rm(root, { recursive: true }));

describe("encode and decode", async () => {
  const tokenizer = await Tokenizer.load(fixture);

  // Ids from the tokenizers library of Python. The first rows are where the JavaScript one splits otherwise by itself.
  it.each([
    ["a\u0085's", [68, 130, 231, 10, 86]],
    ["\u2028  ½", [162, 226, 105, 224, 224, 130, 125]],
    ["\n\n\uFEFF's", [202, 202, 175, 123, 127, 10, 86]],
    ["٣Ⅷ² 12", [153, 100, 162, 231, 104, 130, 114, 224, 20, 21]],
    ["Ada went to Lagos 🙂.", [36, 328, 298, 266, 307, 68, 74, 82, 86, 224, 176, 257, 251, 228, 17]],
    ["  x  \n y", [224, 224, 91, 224, 224, 202, 224, 92]],
    ["<|im_end|>x<|im_start|>", [2, 91, 1]],
    ["", []],
  ])("%j", (text, ids) => {
    expect(tokenizer.encode(text)).toEqual(ids);
    expect(tokenizer.decode(ids)).toBe(text);
  });

  it("leaves out special tokens when asked, and ids that do not exist", () => {
    expect(tokenizer.decode([2, 91, 1], { skipSpecialTokens: true })).toBe("x");
    expect(tokenizer.decode([91, 100_000])).toBe("x");
  });

  it("knows the special tokens", () => {
    const { bosToken, bosTokenId, eosToken, eosTokenId, padTokenId, vocabSize } = tokenizer;
    expect([bosToken, bosTokenId, eosToken, eosTokenId, padTokenId, vocabSize]).toEqual([
      ...["<|im_start|>", 1, "<|im_end|>", 2],
      ...[3, 384],
    ]);
    expect(tokenizer.hasSpecialText("a <|im_end|> b")).toBe(true);
    expect(tokenizer.hasSpecialText("a <|im_en|> b")).toBe(false);
  });

  it("adds what the tokenizer adds to a text, unless told not to", async () => {
    const bos = await Tokenizer.load(path.join(fixture, "../tokenizer-bos"));
    expect(bos.encode("x")).toEqual([1, 91]);
    expect(bos.encode("x", { addSpecialTokens: false })).toEqual([91]);
  });

  it("takes another EOS token, for the template too", async () => {
    const other = (await loadWith({ "chat_template.jinja": "{{ eos_token }}" })).withEosToken("<|endoftext|>");
    expect([other.eosToken, other.eosTokenId, other.renderChat([user])]).toEqual(["<|endoftext|>", 0, "<|endoftext|>"]);
    expect(() => tokenizer.withEosToken("<none>")).toThrow('has no token "<none>"');
  });
});

describe("special tokens that only the other files name", () => {
  it("adds them as transformers does", async () => {
    const tokenizer = await loadWith({
      "tokenizer_config.json": {
        eos_token: { content: "<new>", lstrip: false },
        bos_token: "he",
        pad_token: null,
        extra_special_tokens: ["<extra>"],
      },
    });
    expect(tokenizer.encode("a<new>b<extra>")).toEqual([68, 384, 69, 385]);
    expect(tokenizer.encode("the")).toEqual([...tokenizer.encode("t"), tokenizer.bosTokenId]);
    expect([tokenizer.eosTokenId, tokenizer.padTokenId, tokenizer.vocabSize]).toEqual([384, 384, 386]);
    expect(tokenizer.decode([68, 384], { skipSpecialTokens: true })).toBe("a");
  });

  it("reads the older special_tokens_map.json, unless the config lists the added tokens", async () => {
    const map = { eos_token: { content: "<|endoftext|>" } };
    const config = { eos_token: "<|im_end|>" };
    const files = { "special_tokens_map.json": map, "tokenizer_config.json": config };
    expect((await loadWith(files)).eosToken).toBe("<|endoftext|>");
    const listed = { ...config, added_tokens_decoder: { 384: { content: "<new>", special: true } } };
    const tokenizer = await loadWith({ ...files, "tokenizer_config.json": listed });
    expect([tokenizer.eosToken, tokenizer.encode("<new>")]).toEqual(["<|im_end|>", [384]]);
  });

  it("does without any", async () => {
    const tokenizer = await loadWith({ "tokenizer_config.json": null });
    expect([tokenizer.eosToken, tokenizer.eosTokenId, tokenizer.padTokenId]).toEqual([undefined, undefined, undefined]);
  });
});

describe("chat templates", () => {
  const config = async (template: unknown) => ({
    ...JSON.parse(await readFile(path.join(fixture, "tokenizer_config.json"), "utf8")),
    chat_template: template,
  });

  it("come from their file, the config as a text, or the config as a list of names", async () => {
    const text = { "tokenizer_config.json": await config("text") };
    expect((await loadWith(text)).renderChat([user])).toBe("<|im_start|>user\nhi<|im_end|>\n");
    expect((await loadWith({ ...text, "chat_template.jinja": null })).renderChat([user])).toBe("text");
    const named = [
      { name: "default", template: "plain" },
      { name: "tool_use", template: "tools" },
    ];
    const list = await loadWith({ "tokenizer_config.json": await config(named), "chat_template.jinja": null });
    expect(list.renderChat([user])).toBe("plain");
    expect(list.renderChat([user], { tools: [{}] })).toBe("tools");
    const folder = await loadWith({ "additional_chat_templates/tool_use.jinja": "from a file" });
    expect(folder.renderChat([user], { tools: [{}] })).toBe("from a file");
  });

  it("may be missing, which is an error only where one is needed", async () => {
    const tokenizer = await loadWith({ "chat_template.jinja": null });
    expect(tokenizer.hasChatTemplate).toBe(false);
    expect(() => tokenizer.renderChat([user])).toThrow(/there is no chat template.*chat_template\.jinja/);
  });
});

describe("marked texts", () => {
  const mark = (tokenizer: Tokenizer, text: string, part: string) => {
    const start = text.indexOf(part);
    const { ids, mask } = tokenizer.encodeMarked({ text, spans: [[start, start + part.length]] });
    expect(ids).toEqual(tokenizer.encode(text, { addSpecialTokens: false }));
    return tokenizer.decode(ids.filter((_, i) => mask[i] === 1));
  };

  it("finds the tokens of a stretch, whatever its characters take", async () => {
    const tokenizer = await Tokenizer.load(fixture);
    expect(mark(tokenizer, "é<|im_start|>Zürich 🙂<|im_end|>\n", "Zürich 🙂<|im_end|>")).toBe("Zürich 🙂<|im_end|>");
  });

  it("follows a normaliser that changes the text", async () => {
    const json = JSON.parse(await readFile(path.join(fixture, "tokenizer.json"), "utf8"));
    const tokenizer = await loadWith({ "tokenizer.json": { ...json, normalizer: { type: "NFC" } } });
    expect(mark(tokenizer, "Zu\u0308rich: cafe\u0301 x", "cafe\u0301")).toBe(" café".trim());
  });
});

describe("broken folders", () => {
  it("are one clear error each", async () => {
    expect(await failure(path.join(root, "nowhere"))).toContain("/nowhere: no such folder");
    expect(await failure(await folderWith({ "tokenizer.json": null }))).toContain("there is no tokenizer.json");
    expect(await failure(await folderWith({ "tokenizer.json": null, "tokenizer.model": "x" }))).toContain(
      "older tokenizer.model: save the tokenizer with transformers",
    );
    const whole = await readFile(path.join(fixture, "tokenizer.json"), "utf8");
    expect(await failure(await folderWith({ "tokenizer.json": whole.slice(0, 5000) }))).toContain("perhaps cut off");
    expect(await failure(await folderWith({ "tokenizer.json": "[]" }))).toContain("must hold a JSON object");
    expect(await failure(await folderWith({ "tokenizer.json": {} }))).toContain("has no model with a vocabulary");
    expect(await failure(await folderWith({ "tokenizer_config.json": "{" }))).toContain(
      "tokenizer_config.json: not valid",
    );
    const json = JSON.parse(whole);
    expect(await failure(await folderWith({ "tokenizer.json": { ...json, added_tokens: [{}] } }))).toContain(
      "added_tokens must be a list",
    );
    const odd = { ...json, pre_tokenizer: { type: "Nothing" } };
    expect(await failure(await folderWith({ "tokenizer.json": odd }))).toMatch(
      /tokenizer\.json: cannot be used: .*Nothing/,
    );
  });
});
