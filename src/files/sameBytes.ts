/** Whether two tensors of safetensors files hold the same bytes. */
import { openRegularFile } from "../support/regularFile.js";
import type { TensorLocation } from "./weights.js";

const CHUNK = 4 * 2 ** 20;

export async function sameBytes(a: TensorLocation, b: TensorLocation): Promise<boolean> {
  const bytes = a.info.end - a.info.begin;
  if (a.info.dtype !== b.info.dtype || bytes !== b.info.end - b.info.begin) return false;
  const [first, second] = [await openRegularFile(a.file), await openRegularFile(b.file)];
  try {
    for (let at = 0; at < bytes; at += CHUNK) {
      const length = Math.min(CHUNK, bytes - at);
      const [x, y] = await Promise.all([
        first.read(Buffer.alloc(length), 0, length, a.info.begin + at),
        second.read(Buffer.alloc(length), 0, length, b.info.begin + at),
      ]);
      if (!x.buffer.equals(y.buffer)) return false;
    }
    return true;
  } finally {
    await Promise.all([first.close(), second.close()]);
  }
}
