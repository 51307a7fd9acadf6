/** Where a model computes: its weights and everything that its ops make lie on one device. */

import { UserError } from "../support/errors.js";
import { loadNative, whyNoGpu } from "./native.js";

export type Device = "cpu" | `cuda:${number}`;

let first: Device | undefined;

/**
 * The CPU if that is asked for, else the first GPU that there is. CUDA_VISIBLE_DEVICES says which GPUs are seen, and in
 * which order.
 * @throws UserError for a GPU that is there but cannot be used
 */
export function chooseDevice(useCpu: boolean): Device {
  if (useCpu) return "cpu";
  first ??= firstDevice();
  return first;
}

function firstDevice(): Device {
  try {
    const { devices } = loadNative().engineInfo();
    const problem = whyNoGpu();
    if (problem) throw problem;
    return devices.includes("cuda:0") ? "cuda:0" : "cpu";
  } catch (error) {
    if (error instanceof UserError) throw error; // the module itself does not load
    throw new UserError(
      `use_cpu: there is an NVIDIA driver, but the GPU cannot be used: ${(error as Error).message}. See what is wrong with npx slimtune doctor, or set use_cpu to true.`,
      { cause: error },
    );
  }
}

/** Whether float32 products of matrices may be computed in TensorFloat-32 on a GPU. */
export function setTf32(on: boolean): void {
  loadNative().setTf32(on);
}

/** Most bytes that the device's tensors took at once so far; undefined on the CPU, which has no memory of its own. */
export function peakDeviceMemory(device: Device): number | undefined {
  return device === "cpu" ? undefined : loadNative().deviceMemory(device).peak;
}
