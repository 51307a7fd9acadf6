/** The weights of a folder as tensors that lie in their files. */
import type { SafetensorsDtype } from "../files/safetensors.js";
import type { TensorLocation } from "../files/weights.js";
import { type DType, MappedFile, type Tensor } from "../torch/index.js";

const torchDtypes: Record<SafetensorsDtype, DType> = {
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

export function torchDtype(dtype: SafetensorsDtype): DType {
  return torchDtypes[dtype];
}

/** Maps each file once. */
export class MappedWeights {
  readonly #maps = new Map<string, MappedFile>();

  /** The tensor without a copy; it may outlive `close`. */
  tensor({ file, info }: TensorLocation): Tensor {
    let map = this.#maps.get(file);
    if (!map) {
      map = new MappedFile(file);
      this.#maps.set(file, map);
    }
    return map.tensor(info.begin, torchDtype(info.dtype), info.shape);
  }

  close(): void {
    for (const map of this.#maps.values()) map.close();
  }
}
