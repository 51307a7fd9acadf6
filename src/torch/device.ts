/** Where a model computes: its weights and everything that its ops make lie on one device. */

import { UserError } from "../support/errors.js";
import { loadNative, whyGpuAbsent, whyNoGpu } from "./native.js";

export type Device = "cpu" | `cuda:${number}`;

let first: Device | undefined;

/** What a person may ask for: a GPU or the CPU; neither: a GPU where there is one. */
export type DeviceChoice = "cpu" | "cuda" | undefined;

/**
 * The CPU if that is asked for, else the first GPU that there is. CUDA_VISIBLE_DEVICES says which GPUs are seen, and in
 * which order.
 * @throws UserError for a GPU that is there but cannot be used, and for one that is asked for and not there
 */
export function chooseDevice(useCpu: boolean, choice?: DeviceChoice): Device {
  if (useCpu && choice === "cuda")
    throw new UserError("device: cuda contradicts use_cpu: true; remove one of the two.");
  if (useCpu || choice === "cpu") return "cpu";
  first ??= firstDevice();
  if (first === "cpu" && choice === "cuda") {
    throw new UserError(`device: cuda, but there is no GPU: ${whyGpuAbsent()}. Remove it to compute on the CPU.`);
  }
  return first;
}

/** For a person: why a run that may use a GPU does not. */
export function describeDevice(device: Device, useCpu: boolean, choice?: DeviceChoice): string {
  if (device !== "cpu") return device;
  return useCpu || choice === "cpu" ? "cpu, as asked for" : `cpu: ${whyGpuAbsent()}`;
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
