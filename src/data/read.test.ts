import { mkdir, mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { UserError } from "../support/errors.js";
import type { DatasetSpec } from "./config.js";
import { type LoadOptions, loadRows } from "./read.js";

let root: string;
const at = (name: string) => path.join(root, name);
const write = async (name: string, content: string | Buffer) => {
  await writeFile(at(name), content);
  return at(name);
};
const failure = async (spec: DatasetSpec, options?: LoadOptions): Promise<string> => {
  const error = await loadRows(spec, options).then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(error).toBeInstanceOf(UserError);
  return (error as UserError).message.replaceAll(root, "");
};

beforeAll(async () => {
  root = await mkdtemp(path.join(tmpdir(), "slimtune-read-"));
});
afterAll(() => rm(root, { recursive: true }));

describe("JSON lines", () => {
  it("reads lines with a byte order mark, CRLF, blank lines, U+2028 and no last newline", async () => {
    const file = await write("a.jsonl", '\uFEFF{"text":"é\u2028x"}\r\n\r\n  \n{"text":"🙂"}');
    expect(await loadRows(file)).toEqual([
      { fields: { text: "é\u2028x" }, source: `${file}:1`, format: "text" },
      { fields: { text: "🙂" }, source: `${file}:4`, format: "text" },
    ]);
  });

  it("reads lines longer than a chunk, with characters cut by the chunk", async () => {
    const long = "é🙂".repeat(300_000);
    const file = await write("long.jsonl", `${JSON.stringify({ text: `x${long}` })}\n{"text":"b"}\n`);
    const rows = await loadRows(file);
    expect(rows.map(({ fields }) => fields.text)).toEqual([`x${long}`, "b"]);
    expect(rows[1]!.source).toBe(`${file}:2`);
  });

  it("names file, line and reason of a broken line", async () => {
    expect(await failure(await write("broken.jsonl", '{"text":"a"}\n\n{"text":"b}\n'))).toMatch(
      /^\/broken\.jsonl:3: not valid JSON: .*/,
    );
    expect(await failure(await write("cut.jsonl", '{"text":"a"}\n{"text"'))).toContain("/cut.jsonl:2: not valid JSON");
    expect(await failure(await write("list.jsonl", '{"text":"a"}\n["b"]\n'))).toContain(
      "/list.jsonl:2: a row must be a JSON object",
    );
    const latin = Buffer.concat([Buffer.from('{"text":"a"}\n{"text":"'), Buffer.of(0xe9), Buffer.from('"}\n')]);
    expect(await failure(await write("latin.jsonl", latin))).toContain("/latin.jsonl:2: not valid UTF-8");
  });

  it("says of a line that no text can hold that it is too long", async () => {
    const file = await write("endless.jsonl", '{"text":"a"}\n');
    await truncate(file, 700e6); // nothing of it is on the disk
    expect(await failure(file)).toMatch(/^\/endless\.jsonl:2: the line has more than 536870888 bytes/);
  });

  it("takes a key __proto__ for what it is, a key", async () => {
    const file = await write("proto.jsonl", '{"text":"a","__proto__":{"prompt":"x","completion":"y"}}\n');
    const [row] = await loadRows(file);
    expect(row!.format).toBe("text");
    expect(Object.getPrototypeOf(row!.fields)).toBe(Object.prototype);
    expect(({} as Record<string, unknown>).prompt).toBeUndefined();
    expect(await failure({ path: file, columns: { text: "toString" } })).toContain('there is no column "toString"');
  });
});

describe("JSON", () => {
  it("reads a list, an object with one list, a single row and lines under this name", async () => {
    const list = await write("list.json", '[{"text":"a"},\n{"text":"b"}]');
    expect((await loadRows(list)).map(({ source }) => source)).toEqual([`${list}[0]`, `${list}[1]`]);
    const inside = await write("inside.json", '{"version":"1.0","data":[{"text":"a"}]}');
    expect(await loadRows(inside)).toEqual([{ fields: { text: "a" }, source: `${inside}.data[0]`, format: "text" }]);
    const one = await write("one.json", '{"messages":[{"role":"user","content":"a"}]}\n');
    expect((await loadRows(one)).map(({ format }) => format)).toEqual(["messages"]);
    const lines = await write("lines.json", '{"text":"a"}\n{"text":"b"}\n');
    expect((await loadRows(lines)).map(({ source }) => source)).toEqual([`${lines}:1`, `${lines}:2`]);
  });

  it("names the line of a mistake and what is wrong with the shape", async () => {
    expect(await failure(await write("broken.json", '[{"text":"a"},\n{"text":b}\n]'))).toMatch(
      /^\/broken\.json:2: not valid JSON/,
    );
    expect(await failure(await write("cut.json", '[{"text":"a"},\n'))).toMatch(/^\/cut\.json:\d: not valid JSON/);
    expect(await failure(await write("lines2.json", '{"text":"a"}\n{"text":\n'))).toContain(
      "/lines2.json:2: not valid",
    );
    expect(await failure(await write("two.json", '{"a":[{}],"b":[{}]}'))).toContain("several lists (a, b)");
    expect(await failure(await write("number.json", "[1]"))).toContain("/number.json[0]: a row must be a JSON object");
  });
});

describe("other kinds of files", () => {
  const LINES = '{"text": "a"}\n{"text": "b"}\n';

  it("reads them compressed, and says when they are not", async () => {
    for (const name of ["a.jsonl.gz", "a.json.gz"]) {
      const file = await write(name, gzipSync(LINES));
      expect(await loadRows(file)).toEqual([
        { fields: { text: "a" }, source: `${file}:1`, format: "text" },
        { fields: { text: "b" }, source: `${file}:2`, format: "text" },
      ]);
    }
    expect(await failure(await write("plain.jsonl.gz", LINES))).toMatch(
      /plain\.jsonl\.gz: cannot be read: incorrect header/,
    );
    const cut = gzipSync(LINES.repeat(1000)).subarray(0, 50);
    expect(await failure(await write("cut.jsonl.gz", cut))).toMatch(/cut\.jsonl\.gz: cannot be read: unexpected end/);
  });

  it("reads tables, and takes those of a folder only where there is no JSON", async () => {
    const file = await write("t.csv", "prompt,completion\nq,a\n");
    const row = { fields: { prompt: "q", completion: "a" }, source: `${file}:2`, format: "prompt_completion" };
    expect(await loadRows(file)).toEqual([row]);
    const zipped = await write("z.csv.gz", gzipSync("prompt,completion\nq,a"));
    expect(await loadRows(zipped)).toEqual([{ ...row, source: `${zipped}:2` }]);
    expect(await failure(await write("l.csv", Buffer.from([0x61, 0x0a, 0xff])))).toContain("not valid UTF-8");
    await mkdir(at("both"));
    await write("both/a.csv", "text\nx");
    expect(await loadRows(at("both"))).toHaveLength(1);
    await write("both/a.jsonl", LINES);
    expect((await loadRows(at("both"))).map(({ fields }) => fields.text)).toEqual(["a", "b"]);
  });

  it("stops reading where max_samples are there", async () => {
    const big = await write("big.jsonl", `${LINES.repeat(200_000)}not JSON`);
    expect(await loadRows({ path: big, max_samples: 2 }, { max_samples: 5 })).toHaveLength(2);
    expect(await loadRows(big, { max_samples: 3 })).toHaveLength(3);
  });
});

describe("paths", () => {
  it("says what is missing, empty or of another kind", async () => {
    expect(await failure(at("nothing.jsonl"))).toContain("/nothing.jsonl: no such file");
    expect(await failure(at("nothing*.jsonl"))).toContain("no file matches");
    expect(await failure(await write("empty.jsonl", "\n \n"))).toContain("is empty");
    expect(await failure(await write("empty.json", " "))).toContain("is empty");
    expect(await failure(await write("table.tsv", "a\tb"))).toContain(".json and .csv files can be read");
  });

  it("reads a folder, one split of it, and a glob, in the order of names", async () => {
    await mkdir(at("set"));
    for (const name of ["train-2", "train-1", "test", "training"])
      await write(`set/${name}.jsonl`, `{"text":"${name}"}`);
    const texts = async (spec: DatasetSpec) => (await loadRows(spec)).map(({ fields }) => fields.text);
    expect(await texts(at("set"))).toEqual(["test", "train-1", "train-2", "training"]);
    expect(await texts({ path: at("set"), split: "train" })).toEqual(["train-1", "train-2"]);
    expect(await texts([at("set/t*-2.jsonl"), at("set/test.jsonl")])).toEqual(["train-2", "test"]);
    expect(await failure({ path: at("set"), split: "valid" })).toContain('no file of the split "valid"');
    expect(await failure({ path: at("set/test.jsonl"), split: "test" })).toContain("this is one file");
    expect(await failure({ path: at("set"), name: "main" })).toContain("is a configuration of a hub dataset");
    expect(await failure({ path: at("set/*.jsonl"), split: "test" })).toContain("do not go with a pattern");
  });

  it("gives a hub id to the resolver, and to no one without it", async () => {
    const file = await write("hub.jsonl", '{"text":"a"}');
    const asked: unknown[] = [];
    const resolveDatasetPath = async (id: string, options: object) => {
      asked.push([id, options]);
      return [file];
    };
    expect(
      await loadRows({ path: "someone/data-set", name: "main", split: "test" }, { resolveDatasetPath }),
    ).toHaveLength(1);
    expect(asked).toEqual([["someone/data-set", { name: "main", split: "test" }]]);
    const unknown = () => Promise.reject(new UserError("unknown"));
    expect(await failure("someone/data-set", { resolveDatasetPath: unknown })).toContain("and on the hub: unknown");
    expect(await failure("someone/data.jsonl", { resolveDatasetPath })).toContain("no such file");
    expect(await failure("someone/data-set")).toContain("no such file");
  });

  it("stops when the signal says so", async () => {
    const file = await write("stop.jsonl", '{"text":"a"}');
    await expect(loadRows(file, { signal: AbortSignal.abort() })).rejects.toThrow(/abort/i);
  });
});

describe("columns", () => {
  it("maps the file's names to ours and uses nothing else, but tools", async () => {
    const file = await write("qa.jsonl", '{"question":"q","answer":"a","text":"not this","tools":[]}');
    const spec = { path: file, columns: { prompt: "question", completion: "answer" } };
    expect(await loadRows(spec)).toEqual([
      { fields: { prompt: "q", completion: "a", tools: [] }, source: `${file}:1`, format: "prompt_completion" },
    ]);
    expect(await failure({ path: file, columns: { text: "body" } })).toContain(
      '/qa.jsonl:1: there is no column "body", which dataset.columns names for text; the row has the columns question',
    );
  });

  it("uses dataset_text_field, and says so when nothing fits", async () => {
    const file = await write("body.jsonl", '{"body":"b"}');
    expect((await loadRows(file, { dataset_text_field: "body" }))[0]!.format).toBe("text");
    expect(await failure(file)).toContain("/body.jsonl:1: cannot tell what to learn from the columns body");
  });
});
