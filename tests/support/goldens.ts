/** Reads the goldens that tests/goldens/make_goldens.py wrote. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { readHeader } from "../../src/files/safetensors.js";

export const goldenPath = (name: string) => fileURLToPath(new URL(`../goldens/${name}`, import.meta.url));
export const fixturePath = (name: string) => fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));

export interface Golden {
  shape: number[];
  values: Float32Array | Float64Array | number[];
}

/** Every tensor of a safetensors golden. */
export const readGoldens = (name: string): Promise<Map<string, Golden>> => readTensors(goldenPath(name));

/** Every tensor of a safetensors file. */
export async function readTensors(path: string): Promise<Map<string, Golden>> {
  const bytes = readFileSync(path);
  const header = await readHeader(path);
  return new Map(
    [...header.tensors].map(([key, { dtype, shape, begin, end }]): [string, Golden] => {
      const data = new Uint8Array(bytes.subarray(begin, end)).buffer;
      if (dtype === "F32") return [key, { shape: [...shape], values: new Float32Array(data) }];
      if (dtype === "F64") return [key, { shape: [...shape], values: new Float64Array(data) }];
      if (dtype === "BOOL") return [key, { shape: [...shape], values: Array.from(new Uint8Array(data)) }];
      if (dtype === "U8") return [key, { shape: [...shape], values: Array.from(new Uint8Array(data)) }];
      if (dtype === "I8") return [key, { shape: [...shape], values: Array.from(new Int8Array(data)) }];
      if (dtype === "BF16") {
        const values = new Float32Array(Uint32Array.from(new Uint16Array(data), (bits) => bits << 16).buffer);
        return [key, { shape: [...shape], values }];
      }
      if (dtype === "I64") return [key, { shape: [...shape], values: Array.from(new BigInt64Array(data), Number) }];
      throw new Error(`${path}: ${key} is ${dtype}`);
    }),
  );
}

export function readGoldenJson<T>(name: string): T {
  return JSON.parse(readFileSync(goldenPath(name), "utf8")) as T;
}

/** The largest |a - b| / max(1, |b|). */
export function worstDifference(actual: ArrayLike<number | bigint>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) throw new Error(`${actual.length} values, expected ${expected.length}`);
  let worst = 0;
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs(Number(actual[i]) - expected[i]!) / Math.max(1, Math.abs(expected[i]!));
    if (!(difference <= worst)) worst = difference;
  }
  return worst;
}
