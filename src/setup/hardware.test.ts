import { expect, test } from "vitest";
import { parseCpuinfo, parseSysctl, readCpu, readMemory } from "./hardware.js";

const core = (processor: number, physical: number, id: number) =>
  `processor\t: ${processor}\nmodel name\t: Intel(R) Xeon(R)\nphysical id\t: ${physical}\ncore id\t\t: ${id}\nflags\t\t: fpu avx2 avx512f amx_tile\n`;

test("cores of /proc/cpuinfo: hyper-threads share a core, sockets do not", () => {
  const text = [core(0, 0, 0), core(1, 0, 1), core(2, 0, 0), core(3, 1, 0)].join("\n");
  const { model, physicalCores, flags } = parseCpuinfo(text);
  expect({ model, physicalCores }).toEqual({ model: "Intel(R) Xeon(R)", physicalCores: 3 });
  expect([...flags]).toEqual(["fpu", "avx2", "avx512f", "amx_tile"]);
});

test("Arm's cpuinfo has features and no core numbers", () => {
  const { physicalCores, flags } = parseCpuinfo("processor\t: 0\nFeatures\t: fp asimd bf16\nCPU part\t: 0xd40\n");
  expect(physicalCores).toBeUndefined();
  expect(flags.has("asimd") && flags.has("bf16")).toBe(true);
});

test("macOS's sysctl, of Apple silicon and of Intel", () => {
  const apple = parseSysctl(
    "machdep.cpu.brand_string: Apple M2\nhw.physicalcpu: 8\nhw.optional.neon: 1\nhw.optional.arm.FEAT_BF16: 0\n",
  );
  expect([apple.model, apple.physicalCores, apple.flags.has("hw.optional.neon")]).toEqual(["Apple M2", 8, true]);
  expect(apple.flags.has("hw.optional.arm.FEAT_BF16")).toBe(false);
  expect(parseSysctl("machdep.cpu.leaf7_features: AVX2 AVX512F\n").flags.has("avx512f")).toBe(true);
});

test("this machine", async () => {
  const cpu = await readCpu();
  expect(cpu.physical_cores).toBeGreaterThanOrEqual(1);
  expect(cpu.logical_cores).toBeGreaterThanOrEqual(cpu.physical_cores);
  expect(readMemory().available).toBeLessThanOrEqual(readMemory().total);
});
