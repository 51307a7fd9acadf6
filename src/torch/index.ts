/** The engine: everything above it imports from here. */

export { backward, clearGrad, gradOf, setRequiresGrad } from "./autograd.js";
export { hasBf16Instructions } from "./cpu.js";
export { chooseDevice, type Device, type DeviceChoice, describeDevice, peakDeviceMemory, setTf32 } from "./device.js";
export { noGrad } from "./dispatch.js";
export * as fused from "./fused.js";
export { MappedFile } from "./mappedFile.js";
export { type DType, type EngineInfo, loadNative, type TensorInfo } from "./native.js";
export * as ops from "./ops.js";
export * as optimizerOps from "./optimizerOps.js";
export { isOutOfMemory } from "./outOfMemory.js";
export { PAGE_ALIGNMENT, PageStore } from "./pageStore.js";
export {
  manualSeed,
  RandomGenerator,
  replayRng,
  rngState,
  rngStates,
  saveRng,
  setDeterministic,
  setRngState,
  setRngStates,
} from "./random.js";
export { dtypeBytes, flush, keep, liveTensors, scope, Tensor } from "./tensor.js";
