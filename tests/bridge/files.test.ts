/** Mapped files: tensors without a copy, that nothing done to them or to the file's name can hurt. */
import { mkdtempSync, readFileSync, renameSync, rmSync, truncateSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { opInPlace } from "../../src/torch/dispatch.js";
import { flush, liveTensors, loadNative, MappedFile, type Tensor } from "../../src/torch/index.js";
import { nativePath, start } from "./support.js";

let folder: string;
let path: string;
const content = Float32Array.of(1, 2, 3, 4, 5, 6);
const values = async (x: Tensor) => Array.from(await x.values(), Number);

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "slimtune-files-"));
  path = join(folder, "weights");
  writeFileSync(path, content);
});
afterEach(async () => {
  rmSync(folder, { recursive: true });
  await flush();
  expect(liveTensors()).toBe(0);
});

/** Bytes of this process's memory, in the kernel's words: "RssAnon" is its own, "RssFile" mapped. */
function residentBytes(kind: "RssAnon" | "RssFile"): number {
  const status = readFileSync("/proc/self/status", "utf8");
  return 1024 * Number(new RegExp(`^${kind}:\\s+(\\d+) kB`, "m").exec(status)![1]);
}

describe("a mapped tensor", () => {
  it("has the file's values, from any offset and in any shape", async () => {
    const file = new MappedFile(path);
    const tensors = [
      file.tensor(0, "float32", [2, 3]),
      file.tensor(8, "float32", [2]),
      file.tensor(24, "float32", [0]),
      file.tensor(20, "int32", []),
    ];
    file.close();
    expect(await values(tensors[0]!)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(await values(tensors[1]!)).toEqual([3, 4]);
    expect(await values(tensors[2]!)).toEqual([]);
    expect(await values(tensors[3]!)).toEqual([new Int32Array(Float32Array.of(6).buffer)[0]]);
    expect(tensors[0]!.shape).toEqual([2, 3]);
    for (const tensor of tensors) tensor.dispose();
  });

  it.runIf(process.platform === "linux")(
    "is no copy: its pages are the file's, and two tensors share them",
    async () => {
      const MIB = 1 << 20;
      writeFileSync(path, new BigInt64Array(8 * MIB).fill(1n)); // summed as they are: a sum of bytes would convert them first
      const file = new MappedFile(path);
      const before = { anon: residentBytes("RssAnon"), file: residentBytes("RssFile") };
      const whole = file.tensor(0, "int64", [8 * MIB]);
      const again = file.tensor(0, "int64", [8, MIB]);
      const sums = [];
      for (const tensor of [whole, again]) {
        const sum = loadNative().call(loadNative().findOp("aten::sum"), [tensor.handle], false)[0]!;
        sums.push(new BigInt64Array((await loadNative().toBytes(sum)).data)[0]);
        loadNative().free(sum);
      }
      expect(sums).toEqual([BigInt(8 * MIB), BigInt(8 * MIB)]);
      expect(residentBytes("RssFile") - before.file).toBeGreaterThan(60 * MIB);
      expect(residentBytes("RssFile") - before.file).toBeLessThan(70 * MIB);
      expect(residentBytes("RssAnon") - before.anon).toBeLessThan(32 * MIB);
      whole.dispose();
      again.dispose();
      file.close();
      await flush();
      expect(residentBytes("RssFile") - before.file).toBeLessThan(8 * MIB); // unmapped with the last tensor
    },
  );

  it("is copied where its bytes are not aligned", async () => {
    writeFileSync(path, Buffer.concat([Buffer.from([0]), Buffer.from(content.buffer)]));
    const file = new MappedFile(path);
    const x = file.tensor(1, "float32", [6]);
    file.close();
    expect(await values(x)).toEqual([...content]);
    x.dispose();
  });

  it("is written to in memory alone", async () => {
    const file = new MappedFile(path);
    const [x, other] = [file.tensor(0, "float32", [6]), new MappedFile(path)];
    opInPlace("aten::add_.Scalar", x, 100);
    expect(await values(x)).toEqual([101, 102, 103, 104, 105, 106]);
    expect(new Float32Array(new Uint8Array(readFileSync(path)).buffer)).toEqual(content);
    const fresh = other.tensor(0, "float32", [6]);
    expect(await values(fresh)).toEqual([...content]);
    x.dispose();
    fresh.dispose();
    file.close();
    other.close();
  });

  it("keeps what was written to it when another tensor of the same bytes goes", async () => {
    const floats = 3 * 4096;
    writeFileSync(path, new Float32Array(floats));
    const file = new MappedFile(path);
    const [x, same, part] = [[0, floats] as const, [0, floats] as const, [4 * 1000, 4096] as const].map(
      ([begin, count]) => file.tensor(begin, "float32", [count]),
    );
    opInPlace("aten::add_.Scalar", x, 100);
    same!.dispose();
    part!.dispose();
    expect(new Set(await values(x!))).toEqual(new Set([100]));
    x!.dispose();
    const fresh = file.tensor(0, "float32", [floats]);
    expect(new Set(await values(fresh))).toEqual(new Set([0])); // with the last tensor they were given back
    fresh.dispose();
    file.close();
  });

  it("that is cut off ends the process with the file's name", async () => {
    writeFileSync(path, Buffer.alloc(1 << 16, 1));
    const { signal, stdout, stderr } = await start("cutOff.child.mjs", [nativePath, path]).ended;
    expect({ signal, stdout }).toEqual({ signal: "SIGBUS", stdout: "" });
    expect(stderr).toBe(
      `slimtune: ${path} can no longer be read where it is in use: it was cut off or overwritten, or the disk or network share that it is on has failed. Restore it, and resume from the last checkpoint.\n`,
    );
  });

  it.each([
    ["deleted", () => unlinkSync(path)],
    [
      "replaced",
      () => {
        writeFileSync(`${path}.new`, new Float32Array(6));
        renameSync(`${path}.new`, path);
      },
    ],
  ])("keeps its values when the file is %s", async (_, act) => {
    const file = new MappedFile(path);
    const x = file.tensor(0, "float32", [6]);
    file.close();
    act();
    expect(await values(x)).toEqual([...content]);
    x.dispose();
  });
});

describe("refuses", () => {
  it.each<[string, number, number[], RegExp]>([
    ["a begin before the file", -4, [1], /bytes -4 to -4 \+ 4 lie outside the file of 24/],
    ["an end behind it", 4, [6], /bytes 4 to 4 \+ 24 lie outside the file of 24/],
    ["a begin behind it", 28, [0], /lie outside the file/],
    ["a size that overflows", 0, [2 ** 40, 2 ** 40], /the shape overflows/],
    ["a size beyond memory", 0, [2 ** 50], /lie outside the file/],
    ["a negative size", 0, [-1], /sizes of zero or more/],
    ["a fraction", 0.5, [1], /begin: expected an integer/],
  ])("%s", (_, begin, shape, message) => {
    const file = new MappedFile(path);
    expect(() => file.tensor(begin, "float32", shape)).toThrow(message);
    file.close();
  });

  it("what is no file, with the reason", () => {
    expect(() => new MappedFile(join(folder, "none"))).toThrow(`cannot open ${folder}/none: No such file or directory`);
    expect(() => new MappedFile(folder)).toThrow(`not a regular file: ${folder}`);
    expect(() => new MappedFile("/dev/null")).toThrow("not a regular file");
    expect(() => new MappedFile(`${path}\0.txt`)).toThrow("the path has a NUL character");
  });

  it("a file that was closed", () => {
    const file = new MappedFile(path);
    file.close();
    expect(() => file.tensor(0, "float32", [1])).toThrow("fileTensor: no such file");
    expect(() => file.close()).toThrow("unmapFile: no such file");
  });

  it("anything of an empty file, but an empty tensor", async () => {
    truncateSync(path);
    const file = new MappedFile(path);
    expect(() => file.tensor(0, "float32", [1])).toThrow("lie outside the file of 0");
    const x = file.tensor(0, "float32", [0]);
    expect(await values(x)).toEqual([]);
    x.dispose();
    file.close();
  });
});
