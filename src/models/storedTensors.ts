/** The tensors of safetensors files, where they lie. */
import type { SafetensorsDtype, SafetensorsHeader, TensorInfo } from "../files/safetensors.js";
import type { TensorLocation } from "../files/weights.js";
import { type DType, MappedFile, type Tensor } from "../torch/index.js";

const DTYPES: Record<SafetensorsDtype, DType> = {
  F64: "float64",
  F32: "float32",
  F16: "float16",
  BF16: "bfloat16",
  I64: "int64",
  I32: "int32",
  I16: "int16",
  I8: "int8",
  U8: "uint8",
  BOOL: "bool",
};

export const dtypeOf = ({ dtype }: TensorInfo): DType => DTYPES[dtype];

/** Maps each file once, at its first tensor; what was read stays mapped after `close`, until it is freed. */
export class StoredTensors {
  readonly #places = new Map<string, TensorLocation>();
  readonly #maps = new Map<string, MappedFile>();

  constructor(headers: readonly SafetensorsHeader[] = []) {
    for (const { path, tensors } of headers) {
      for (const [name, info] of tensors) this.#places.set(name, { file: path, info });
    }
  }

  names(): Iterable<string> {
    return this.#places.keys();
  }

  find(name: string): TensorLocation | undefined {
    return this.#places.get(name);
  }

  /** A view of the file's bytes. */
  read({ file, info }: TensorLocation): Tensor {
    let map = this.#maps.get(file);
    if (!map) {
      map = new MappedFile(file);
      this.#maps.set(file, map);
    }
    return map.tensor(info.begin, dtypeOf(info), info.shape);
  }

  close(): void {
    for (const map of this.#maps.values()) map.close();
  }
}
