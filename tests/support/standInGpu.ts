/**
 * A GPU's rules without a GPU: tensors "on" it are computed on the CPU, but each carries the name of its device, and no
 * op takes tensors of two devices but those that copy from one to the other. So a tensor that code forgot to place is
 * found on every machine.
 */
import { vi } from "vitest";
import { type Handle, loadNative } from "../../src/torch/native.js";
import type { Tensor } from "../../src/torch/tensor.js";

const GPU = "cuda:0";
const COPIES = ["aten::copy_", "aten::to.dtype_layout"];
export const PEAK_MEMORY = 2 ** 31;

/** Until `vi.restoreAllMocks()`. */
export function standInGpu(): { deviceOf(tensor: Tensor): string | undefined } {
  const native = loadNative();
  const devices = new Map<Handle, string>();
  const copies = COPIES.map((name) => native.findOp(name));
  const real = {
    call: native.call.bind(native),
    fromBytes: native.fromBytes.bind(native),
    fileTensor: native.fileTensor.bind(native),
    pageTensor: native.pageTensor.bind(native),
    createDevicePages: native.createDevicePages.bind(native),
    grad: native.grad.bind(native),
    getRngState: native.getRngState.bind(native),
    setRngState: native.setRngState.bind(native),
    saveRng: native.saveRng.bind(native),
    replayRng: native.replayRng.bind(native),
  };
  const place = (handle: Handle, device: string) => {
    devices.set(handle, device);
    return handle;
  };
  let random = new Uint8Array(16).fill(7);

  vi.spyOn(native, "call").mockImplementation((op, args, grad, length) => {
    const inputs = new Set(args.flat().flatMap((arg) => devices.get(arg as Handle) ?? []));
    const named = args.find((arg) => arg === "cpu" || arg === GPU) as string | undefined;
    if (inputs.size > 1 && !copies.includes(op)) throw new Error(`tensors of ${[...inputs].join(" and ")} in one op`);
    const results = real.call(
      op,
      args.map((arg) => (arg === GPU ? "cpu" : arg)),
      grad,
      length,
    );
    for (const handle of results) place(handle, named ?? [...inputs][0] ?? "cpu");
    return results;
  });
  vi.spyOn(native, "fromBytes").mockImplementation((bytes, dtype, shape, device) =>
    place(real.fromBytes(bytes, dtype, shape, "cpu"), device),
  );
  vi.spyOn(native, "fileTensor").mockImplementation((...args) => place(real.fileTensor(...args), "cpu"));
  const pages = new Map<number, string>();
  vi.spyOn(native, "createDevicePages").mockImplementation((device, borders) => {
    const store = real.createDevicePages("cpu", borders);
    pages.set(store, device);
    return store;
  });
  vi.spyOn(native, "pageTensor").mockImplementation((store, ...args) =>
    place(real.pageTensor(store, ...args), pages.get(store) ?? "cpu"),
  );
  vi.spyOn(native, "grad").mockImplementation((leaf) => place(real.grad(leaf), devices.get(leaf) ?? "cpu"));
  vi.spyOn(native, "deviceMemory").mockReturnValue({ allocated: 2 ** 30, peak: PEAK_MEMORY });
  vi.spyOn(native, "getRngState").mockImplementation((name) =>
    name === GPU ? Promise.resolve(random) : real.getRngState(name),
  );
  vi.spyOn(native, "setRngState").mockImplementation((state, name) => {
    if (name === GPU) random = state.slice();
    else real.setRngState(state, name);
  });
  vi.spyOn(native, "saveRng").mockImplementation(() => place(real.saveRng("cpu"), "cpu"));
  vi.spyOn(native, "replayRng").mockImplementation((state) => real.replayRng(state, "cpu"));
  return { deviceOf: ({ handle }) => devices.get(handle) };
}
