/**
 * NumPy's `default_rng(seed).permutation(n)`, with which the `datasets` library shuffles: a PCG64 generator
 * (O'Neill 2014, XSL-RR output) whose state comes from NumPy's SeedSequence, and a Fisher-Yates shuffle from the end.
 * @param seed whole, from 0 to 2^32 - 1
 */
export function numpyPermutation(n: number, seed: number): Int32Array {
  const next = uint32Source(seed);
  const order = Int32Array.from({ length: n }, (_, i) => i);
  for (let last = n - 1; last > 0; last--) {
    const other = upTo(last, next);
    const kept = order[last]!;
    order[last] = order[other]!;
    order[other] = kept;
  }
  return order;
}

const MASK_32 = 0xffffffffn;
const MASK_64 = (1n << 64n) - 1n;
const MASK_128 = (1n << 128n) - 1n;
const MULTIPLIER = 0x2360ed051fc65da44385df649fccf645n;

/** A number from 0 to `most`: of as many low bits as it has, the first that is not above it. */
function upTo(most: number, next: () => number): number {
  const mask = 0xffffffff >>> Math.clz32(most);
  for (;;) {
    const value = (next() & mask) >>> 0;
    if (value <= most) return value;
  }
}

/** PCG64's numbers in halves, the low one first. */
function uint32Source(seed: number): () => number {
  const [a, b, c, d] = seedWords(seed);
  const increment = (((c! << 64n) | d!) << 1n) | 1n;
  const step = (state: bigint) => (state * MULTIPLIER + increment) & MASK_128;
  let state = step((step(0n) + ((a! << 64n) | b!)) & MASK_128);
  let high: number | undefined;
  return () => {
    if (high !== undefined) {
      const half = high;
      high = undefined;
      return half;
    }
    state = step(state);
    const folded = (state >> 64n) ^ (state & MASK_64);
    const turn = state >> 122n;
    const output = ((folded >> turn) | (folded << (64n - turn))) & MASK_64;
    high = Number(output >> 32n);
    return Number(output & MASK_32);
  };
}

/** Four words of 64 bits that NumPy's SeedSequence makes of one seed. */
function seedWords(seed: number): bigint[] {
  let key = 0x43b0d7e5;
  const hash = (value: number) => {
    const mixed = value ^ key;
    key = Math.imul(key, 0x931e8875);
    return fold(Math.imul(mixed, key));
  };
  const pool = [seed, 0, 0, 0].map(hash);
  for (let from = 0; from < 4; from++) {
    for (let to = 0; to < 4; to++) {
      if (from === to) continue;
      const mixed = Math.imul(0xca01f9dd, pool[to]!) - Math.imul(0x4973f715, hash(pool[from]!));
      pool[to] = fold(mixed);
    }
  }
  let outKey = 0x8b51f9dd;
  const words = Array.from({ length: 8 }, (_, i) => {
    const mixed = pool[i % 4]! ^ outKey;
    outKey = Math.imul(outKey, 0x58f38ded);
    return BigInt(fold(Math.imul(mixed, outKey)) >>> 0);
  });
  return [0, 2, 4, 6].map((i) => words[i]! | (words[i + 1]! << 32n));
}

const fold = (value: number) => (value ^ (value >>> 16)) | 0;
