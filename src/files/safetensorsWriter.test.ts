import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { UserError } from "../support/errors.js";
import { DTYPE_BYTES, readHeader, type SafetensorsDtype } from "./safetensors.js";
import { type TensorEntry, writeSafetensors, writeShardedSafetensors } from "./safetensorsWriter.js";
import { resolveWeights } from "./weights.js";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "slimtune-writer-"));
});
afterEach(() => rm(folder, { recursive: true }));

function entry(name: string, dtype: SafetensorsDtype, shape: number[], bytes: number[] | Uint8Array): TensorEntry {
  return { name, dtype, shape, data: async () => Uint8Array.from(bytes) };
}

/** `elements` F32 values, all bytes equal to `fill`. */
const f32 = (name: string, elements: number, fill = 1) =>
  entry(name, "F32", [elements], new Uint8Array(4 * elements).fill(fill));

describe("writeSafetensors", () => {
  test("writes the official writer's bytes", async () => {
    const path = join(folder, "a.safetensors");
    await writeSafetensors(path, [
      entry("u8", "U8", [3], [1, 2, 3]),
      entry("b", "F32", [1], [0, 0, 128, 63]),
      entry("a", "F32", [], [0, 0, 0, 64]),
      entry("half", "F16", [1, 1], [0, 60]),
      entry("brain", "BF16", [1], [128, 63]),
      entry("empty", "I64", [0, 4], []),
    ]);
    // Recorded from safetensors 0.8.0: serialize_file of the same tensors.
    const header =
      '{"__metadata__":{"format":"pt"},"empty":{"dtype":"I64","shape":[0,4],"data_offsets":[0,0]},' +
      '"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},' +
      '"brain":{"dtype":"BF16","shape":[1],"data_offsets":[8,10]},' +
      '"half":{"dtype":"F16","shape":[1,1],"data_offsets":[10,12]},"u8":{"dtype":"U8","shape":[3],"data_offsets":[12,15]}}';
    const padded = header.padEnd(Math.ceil(header.length / 8) * 8);
    const bytes = await readFile(path);
    expect(bytes.readBigUInt64LE()).toBe(BigInt(padded.length));
    expect(bytes.toString("utf8", 8, 8 + padded.length)).toBe(padded);
    expect([...bytes.subarray(8 + padded.length)]).toEqual([0, 0, 0, 64, 0, 0, 128, 63, 128, 63, 0, 60, 1, 2, 3]);
  });

  test("what is written is read back, every tensor aligned to its element", async () => {
    const tensor = fc
      .record({
        name: fc.oneof(
          fc.string({ unit: "grapheme", maxLength: 12 }),
          fc.constantFrom("__proto__", "10", "9", 'q"\\\n'),
        ),
        dtype: fc.constantFrom(...(Object.keys(DTYPE_BYTES) as SafetensorsDtype[])),
        shape: fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 4 }),
      })
      .chain(({ name, dtype, shape }) => {
        const length = shape.reduce((a, b) => a * b, 1) * DTYPE_BYTES[dtype];
        const bytes = fc.uint8Array({ minLength: length, maxLength: length });
        return fc.record({ name: fc.constant(name), dtype: fc.constant(dtype), shape: fc.constant(shape), bytes });
      });
    const tensors = fc.uniqueArray(tensor, { selector: ({ name }) => name, maxLength: 8 });
    const metadata = fc.dictionary(fc.string({ maxLength: 6 }), fc.string({ maxLength: 6 }), { maxKeys: 4 });
    await fc.assert(
      fc.asyncProperty(tensors, metadata, async (written, meta) => {
        const path = join(folder, "round.safetensors");
        await writeSafetensors(
          path,
          written.map(({ name, dtype, shape, bytes }) => entry(name, dtype, shape, bytes)),
          meta,
        );
        const read = await readHeader(path);
        const file = await readFile(path);
        expect(read.dataBegin % 8).toBe(0);
        expect(Object.fromEntries(read.metadata)).toEqual({ ...meta });
        expect(read.tensors.size).toBe(written.length);
        for (const { name, dtype, shape, bytes } of written) {
          const info = read.tensors.get(name)!;
          expect({ dtype: info.dtype, shape: info.shape }).toEqual({ dtype, shape });
          expect(info.begin % DTYPE_BYTES[dtype]).toBe(0);
          expect(new Uint8Array(file.subarray(info.begin, info.end))).toEqual(bytes);
        }
      }),
      { numRuns: 60 },
    );
  });

  test("asks for one tensor at a time, in the file's order", async () => {
    const order: string[] = [];
    let open = 0;
    const lazy = (name: string, dtype: SafetensorsDtype): TensorEntry => ({
      name,
      dtype,
      shape: [1],
      data: async () => {
        expect(++open).toBe(1);
        order.push(name);
        await new Promise((resolve) => setImmediate(resolve));
        open--;
        return new Uint8Array(DTYPE_BYTES[dtype]);
      },
    });
    await writeSafetensors(join(folder, "a.safetensors"), [lazy("z", "F16"), lazy("b", "F32"), lazy("a", "F32")]);
    expect(order).toEqual(["a", "b", "z"]);
  });

  test("keeps the old file and leaves nothing behind when a tensor fails or has the wrong size", async () => {
    const path = join(folder, "a.safetensors");
    await writeSafetensors(path, [f32("old", 2)]);
    const before = await readFile(path);
    const broken = {
      ...f32("x", 1),
      data: async () => {
        throw new Error("the device went away");
      },
    };
    await expect(writeSafetensors(path, [f32("a", 4), broken])).rejects.toThrow("the device went away");
    const short = entry("s", "F32", [2], [1, 2, 3, 4]);
    await expect(writeSafetensors(path, [short])).rejects.toThrow(/tensor s gave 4 bytes instead of 8 for F32 \[2\]/);
    await expect(writeSafetensors(path, [f32("a", 1), f32("a", 1)])).rejects.toThrow(/two tensors named a/);
    await expect(writeSafetensors(path, [f32("__metadata__", 1)])).rejects.toThrow(/two tensors named __metadata__/);
    expect(await readFile(path)).toEqual(before);
    expect(await readdir(folder)).toEqual(["a.safetensors"]);
  });

  test("a folder that does not exist is a UserError", async () => {
    const path = join(folder, "none", "a.safetensors");
    const error = await writeSafetensors(path, [f32("a", 1)]).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(UserError);
    expect((error as UserError).message).toContain(path);
  });

  test("a full disk is a UserError and keeps the old file", async () => {
    const path = join(folder, "a.safetensors");
    await writeSafetensors(path, [f32("old", 2)]);
    const before = await readFile(path);
    const full = () => {
      // The shape of a real failure of write(2); a full disk cannot be arranged without privileges.
      throw Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC", syscall: "write" });
    };
    const error = await writeSafetensors(path, [{ ...f32("a", 1), data: async () => full() }]).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(UserError);
    expect((error as UserError).message).toMatch(/no space left on the disk/);
    expect(await readFile(path)).toEqual(before);
    expect(await readdir(folder)).toEqual(["a.safetensors"]);
  });
});

describe("writeShardedSafetensors", () => {
  const readBack = async () => {
    const { tensors } = await resolveWeights(folder);
    return Object.fromEntries([...tensors].map(([name, { file }]) => [name, file.slice(folder.length + 1)]));
  };

  test("one file when everything fits", async () => {
    await writeShardedSafetensors(folder, [f32("a", 2), f32("b", 2)], { maxShardBytes: 16 });
    expect(await readdir(folder)).toEqual(["model.safetensors"]);
  });

  test("shards and index as transformers writes them", async () => {
    // transformers 5.18 with max_shard_size=16: [a, b], [big] alone, [c, d]; big is placed before the open shard.
    const entries = [f32("a", 2), f32("big", 9), f32("b", 2), f32("d", 3), f32("c", 1)];
    await writeShardedSafetensors(folder, entries, { maxShardBytes: 16 });
    expect(await readBack()).toEqual({
      a: "model-00002-of-00003.safetensors",
      b: "model-00002-of-00003.safetensors",
      big: "model-00001-of-00003.safetensors",
      c: "model-00003-of-00003.safetensors",
      d: "model-00003-of-00003.safetensors",
    });
    const index = await readFile(join(folder, "model.safetensors.index.json"), "utf8");
    expect(index.startsWith('{\n  "metadata": {\n    "total_parameters": 17,\n    "total_size": 68\n  },')).toBe(true);
    expect(Object.keys(JSON.parse(index).weight_map)).toEqual(["a", "b", "big", "c", "d"]);
    expect(await readdir(folder)).toHaveLength(4);
  });

  test("replaces earlier weights of either form, and nothing else", async () => {
    await mkdir(join(folder, "model-00009-of-00009.safetensors.d"));
    await writeFile(join(folder, "adapter_model.safetensors"), "kept");
    const others = ["adapter_model.safetensors", "model-00009-of-00009.safetensors.d"];
    await writeShardedSafetensors(folder, [f32("a", 2), f32("b", 2), f32("c", 2)], { maxShardBytes: 8 });
    await writeShardedSafetensors(folder, [f32("a", 2), f32("b", 2)], { maxShardBytes: 8 });
    expect((await readdir(folder)).sort()).toEqual(
      [
        ...others,
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
      ].sort(),
    );
    await writeShardedSafetensors(folder, [f32("a", 2)]);
    expect((await readdir(folder)).sort()).toEqual([...others, "model.safetensors"].sort());
    await writeShardedSafetensors(folder, [f32("a", 2), f32("b", 2)], { maxShardBytes: 8 });
    expect(Object.keys(await readBack())).toEqual(["a", "b"]);
  });

  test("a failure in a later shard leaves the earlier save whole", async () => {
    await writeShardedSafetensors(folder, [f32("a", 2, 1), f32("b", 2, 1)], { maxShardBytes: 8 });
    const names = await readdir(folder);
    const before = await Promise.all(names.map((name) => readFile(join(folder, name))));
    const broken = {
      ...f32("b", 2),
      data: async () => {
        throw new Error("stop");
      },
    };
    await expect(writeShardedSafetensors(folder, [f32("a", 2, 9), broken], { maxShardBytes: 8 })).rejects.toThrow(
      "stop",
    );
    expect(await readdir(folder)).toEqual(names);
    expect(await Promise.all(names.map((name) => readFile(join(folder, name))))).toEqual(before);
  });
});
