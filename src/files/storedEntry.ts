/** A tensor of a safetensors file, to be written into another one as it is. */
import { openRegularFile } from "../support/regularFile.js";
import type { TensorEntry } from "./safetensorsWriter.js";
import type { TensorLocation } from "./weights.js";

export function storedEntry(name: string, { file, info }: TensorLocation): TensorEntry {
  const { dtype, shape, begin, end } = info;
  const bytes = end - begin;
  return {
    name,
    dtype,
    shape,
    data: async () => {
      const handle = await openRegularFile(file);
      try {
        const buffer = Buffer.alloc(bytes);
        for (let read = 0; read < bytes; ) {
          const { bytesRead } = await handle.read(buffer, read, bytes - read, begin + read);
          if (bytesRead === 0) throw new Error(`${file} ends within the tensor '${name}'`);
          read += bytesRead;
        }
        return buffer;
      } finally {
        await handle.close();
      }
    },
  };
}
