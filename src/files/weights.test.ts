import { cp, mkdir, mkdtemp, rename, rm, symlink, unlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { UserError } from "../support/errors.js";
import { writeSafetensors } from "./safetensorsWriter.js";
import { resolveWeights } from "./weights.js";

let root: string;
let folder: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "slimtune-weights-"));
  folder = join(root, "model");
  await mkdir(folder);
});
afterEach(() => rm(root, { recursive: true }));

const write = (path: string, ...names: string[]) =>
  writeSafetensors(
    path,
    names.map((name) => ({ name, dtype: "F32" as const, shape: [1], data: async () => new Uint8Array(4) })),
  );
const SHARD_1 = "model-00001-of-00002.safetensors";
const SHARD_2 = "model-00002-of-00002.safetensors";
const writeIndex = (index: unknown) =>
  writeFile(
    join(folder, "model.safetensors.index.json"),
    typeof index === "string" ? index : JSON.stringify({ metadata: { total_size: 8 }, weight_map: index }),
  );

async function messageOf(work: Promise<unknown>): Promise<string> {
  const error = await work.then(
    () => undefined,
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(UserError);
  return (error as UserError).message;
}

describe("resolveWeights", () => {
  test("a single file", async () => {
    await write(join(folder, "model.safetensors"), "a", "b");
    const index = await resolveWeights(folder);
    expect([...index.tensors.keys()]).toEqual(["a", "b"]);
    expect(index.tensors.get("b")!.file).toBe(join(folder, "model.safetensors"));
    expect(index.tensors.get("b")!.info).toMatchObject({ dtype: "F32", shape: [1] });
    expect(index.headers).toHaveLength(1);
  });

  test("an adapter's file, and a stale index beside a single file", async () => {
    await write(join(folder, "adapter_model.safetensors"), "lora");
    expect([...(await resolveWeights(folder, "adapter_model")).tensors.keys()]).toEqual(["lora"]);
    await write(join(folder, "model.safetensors"), "a");
    await writeIndex({ a: SHARD_1 });
    expect([...(await resolveWeights(folder)).tensors.keys()]).toEqual(["a"]);
  });

  test("shards", async () => {
    await write(join(folder, SHARD_1), "a", "c");
    await write(join(folder, SHARD_2), "b", "__proto__");
    await writeIndex(`{"weight_map":{"a":"${SHARD_1}","b":"${SHARD_2}","c":"${SHARD_1}","__proto__":"${SHARD_2}"}}`);
    const { tensors, headers } = await resolveWeights(folder);
    expect([...tensors.keys()].sort()).toEqual(["__proto__", "a", "b", "c"]);
    expect(tensors.get("b")!.file).toBe(join(folder, SHARD_2));
    expect(headers.map(({ path }) => path)).toEqual([join(folder, SHARD_1), join(folder, SHARD_2)]);
  });

  test("missing shards, by name", async () => {
    await write(join(folder, SHARD_1), "a");
    await writeIndex({ a: SHARD_1, b: SHARD_2 });
    expect(await messageOf(resolveWeights(folder))).toMatch(
      /lacks 1 of the 2 files.*"model-00002-of-00002\.safetensors"/,
    );
  });

  test("a tensor that the index promises, that it does not know, or that it places elsewhere", async () => {
    await write(join(folder, SHARD_1), "a");
    await write(join(folder, SHARD_2), "b");
    await writeIndex({ a: SHARD_1, b: SHARD_2, c: SHARD_2 });
    expect(await messageOf(resolveWeights(folder))).toMatch(
      /00002-of-00002\.safetensors" holds tensor "c", but it does not/,
    );
    await writeIndex({ a: SHARD_1 });
    await write(join(folder, SHARD_1), "a", "x");
    expect(await messageOf(resolveWeights(folder))).toMatch(/holds tensor "x", but the index does not know it/);
    await write(join(folder, SHARD_2), "a", "b");
    await write(join(folder, SHARD_1), "a");
    await writeIndex({ a: SHARD_1, b: SHARD_2 });
    expect(await messageOf(resolveWeights(folder))).toMatch(/00002.*holds tensor "a", but the index says "model-00001/);
  });

  test.each([
    "../model-00001-of-00002.safetensors",
    "sub/../../x.safetensors",
    "/etc/x.safetensors",
    "C:x.safetensors",
    "sub/D:/x.safetensors",
    "\\\\host\\share\\x.safetensors",
    "..\\x.safetensors",
    "./x.safetensors",
    "sub//x.safetensors",
    "",
    "x\u0000.safetensors",
    "x\n.safetensors",
    "pytorch_model.bin",
    null,
    7,
    ["x.safetensors"],
    {},
  ])("refuses %j in weight_map", async (file) => {
    await write(join(root, SHARD_1), "a");
    await writeIndex({ a: file });
    expect(await messageOf(resolveWeights(folder))).toMatch(
      /weight_map gives "a" the file .*not a \.safetensors file name/,
    );
  });

  test.each(["", "{", "null", "[]", '"x"', "{}", '{"weight_map":[]}', '{"weight_map":null}', '{"weight_map":{}}'])(
    "refuses the index %j",
    async (text) => {
      await writeIndex(text);
      expect(await messageOf(resolveWeights(folder))).toMatch(
        /index\.json: (not valid JSON|no weight_map|weight_map is empty)/,
      );
    },
  );

  test("refuses an index of more files than any model has", async () => {
    await writeIndex(Object.fromEntries(Array.from({ length: 10_001 }, (_, i) => [`t${i}`, `${i}.safetensors`])));
    expect(await messageOf(resolveWeights(folder))).toMatch(/names 10001 files \(limit 10000\)/);
  });

  test("says which file is damaged", async () => {
    await writeFile(join(folder, "model.safetensors"), "hello");
    expect(await messageOf(resolveWeights(folder))).toContain(join(folder, "model.safetensors"));
  });

  test("explains folders without safetensors", async () => {
    expect(await messageOf(resolveWeights(join(root, "none")))).toMatch(/none.*ENOENT/);
    expect(await messageOf(resolveWeights(folder))).toMatch(/has no weights: neither model\.safetensors nor/);
    await writeFile(join(folder, "pytorch_model-00001-of-00002.bin"), "");
    expect(await messageOf(resolveWeights(folder))).toMatch(
      /pytorch_model-00001.*safetensors only.*AutoModelForCausalLM/,
    );
    await writeFile(join(folder, "adapter_config.json"), "{}");
    expect(await messageOf(resolveWeights(folder))).toMatch(/holds an adapter, not a model/);
    await rm(join(folder, "pytorch_model-00001-of-00002.bin"));
    await writeFile(join(folder, "adapter_model.bin"), "");
    expect(await messageOf(resolveWeights(folder, "adapter_model"))).toMatch(/adapter_model\.bin.*AutoPeftModel/);
  });
});

describe.skipIf(process.platform === "win32")("links", () => {
  /** Moves the files of `folder` into a hub cache's blobs and links a snapshot to them. */
  async function asSnapshot(cache: string, ...names: string[]): Promise<string> {
    const snapshot = join(cache, "models--org--name", "snapshots", "0123abc");
    await mkdir(snapshot, { recursive: true });
    await mkdir(join(cache, "models--org--name", "blobs"), { recursive: true });
    for (const name of names) {
      await rename(join(folder, name), join(cache, "models--org--name", "blobs", `etag-${name}`));
      await symlink(`../../blobs/etag-${name}`, join(snapshot, name));
    }
    return snapshot;
  }

  test("a hub cache's snapshot, also through a link to the folder, to the cache and to its blobs", async () => {
    await write(join(folder, SHARD_1), "a");
    await write(join(folder, SHARD_2), "b");
    await writeIndex({ a: SHARD_1, b: SHARD_2 });
    const cache = join(root, "cache");
    const snapshot = await asSnapshot(cache, SHARD_1, SHARD_2, "model.safetensors.index.json");
    expect((await resolveWeights(snapshot)).tensors.size).toBe(2);
    await symlink(snapshot, join(root, "short"));
    expect((await resolveWeights(join(root, "short"))).tensors.size).toBe(2);
    await symlink(cache, join(root, "cache2"));
    expect((await resolveWeights(join(root, "cache2/models--org--name/snapshots/0123abc"))).tensors.size).toBe(2);
    await rename(join(cache, "models--org--name/blobs"), join(root, "otherdisk"));
    await symlink(join(root, "otherdisk"), join(cache, "models--org--name/blobs"));
    expect((await resolveWeights(snapshot)).tensors.size).toBe(2);
  });

  test("refuses a link out of the folder, out of the cache's repository, and into another repository", async () => {
    await write(join(root, "secret.safetensors"), "a");
    await symlink("../secret.safetensors", join(folder, "model.safetensors"));
    expect(await messageOf(resolveWeights(folder))).toMatch(
      /is a link to .*secret\.safetensors, outside the model's folder/,
    );
    await unlink(join(folder, "model.safetensors"));
    await writeIndex({ a: SHARD_1 });
    await symlink("../secret.safetensors", join(folder, SHARD_1));
    expect(await messageOf(resolveWeights(folder))).toMatch(/outside the model's folder/);

    const cache = join(root, "cache");
    const snapshot = await asSnapshot(cache);
    await symlink(join(root, "secret.safetensors"), join(snapshot, "model.safetensors"));
    expect(await messageOf(resolveWeights(snapshot))).toMatch(/outside the model's folder/);
    await mkdir(join(cache, "models--other--name/blobs"), { recursive: true });
    await cp(join(root, "secret.safetensors"), join(cache, "models--other--name/blobs/x"));
    await unlink(join(snapshot, "model.safetensors"));
    await symlink("../../../models--other--name/blobs/x", join(snapshot, "model.safetensors"));
    expect(await messageOf(resolveWeights(snapshot))).toMatch(/outside the model's folder/);
  });

  test("a folder that only looks like a snapshot opens nothing more", async () => {
    const fake = join(root, "evil/snapshots/main");
    await mkdir(fake, { recursive: true });
    await mkdir(join(root, "evil/blobs"));
    await write(join(root, "evil/blobs/x"), "a");
    await symlink("../../blobs/x", join(fake, "model.safetensors"));
    expect(await messageOf(resolveWeights(fake))).toMatch(/outside the model's folder/);
  });

  test("a link inside the folder is fine, a link to the folder itself and a dangling one are not", async () => {
    await write(join(folder, "weights-v2.safetensors"), "a");
    await symlink("weights-v2.safetensors", join(folder, "model.safetensors"));
    expect((await resolveWeights(folder)).tensors.size).toBe(1);
    await rm(join(folder, "weights-v2.safetensors"));
    expect(await messageOf(resolveWeights(folder))).toMatch(/is a link to a file that does not exist/);
    await unlink(join(folder, "model.safetensors"));
    await symlink(".", join(folder, "model.safetensors"));
    expect(await messageOf(resolveWeights(folder))).toMatch(/outside the model's folder/);
  });
});

describe("fixtures written by transformers and PEFT", () => {
  const fixture = (name: string) => join(import.meta.dirname, "../../tests/fixtures", name);

  test("sharded and single models hold the same tensors", async () => {
    const single = await resolveWeights(fixture("tiny-llama"));
    const sharded = await resolveWeights(fixture("tiny-llama-sharded"));
    expect(single.headers).toHaveLength(1);
    expect(sharded.headers.length).toBeGreaterThan(1);
    const shapes = ({ tensors }: typeof single) =>
      new Map([...tensors].map(([name, { info }]) => [name, `${info.dtype} ${info.shape}`] as const).sort());
    expect(shapes(sharded)).toEqual(shapes(single));
    expect(single.tensors.has("model.layers.0.self_attn.q_proj.weight")).toBe(true);
  });

  test("bf16 and fp16 models, and an adapter", async () => {
    const dtypes = async (name: string, stem?: "adapter_model") => {
      const { tensors } = await resolveWeights(fixture(name), stem);
      return [...new Set([...tensors.values()].map(({ info }) => info.dtype))];
    };
    expect(await dtypes("tiny-llama-bf16")).toEqual(["BF16"]);
    expect(await dtypes("tiny-llama-fp16")).toEqual(["F16"]);
    expect(await dtypes("tiny-llama-adapter", "adapter_model")).toEqual(["F32"]);
  });
});
