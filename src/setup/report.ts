import type { DoctorReport } from "./doctor.js";

const GIB = 1024 ** 3;

/** The doctor's report for people: one fact a line, and at the end what to do. */
export function formatReport(report: DoctorReport): string {
  const { cpu, memory, libtorch, addon, engine, tools, cache } = report;
  const gib = (bytes: number) => `${(bytes / GIB).toFixed(1)} GiB`;
  const limit = memory.limit === undefined ? "" : `, container limit ${gib(memory.limit)}`;
  const usable = cpu.usable_cores === cpu.logical_cores ? "" : `, ${cpu.usable_cores} usable`;
  const lines: [string, string][] = [
    ["slimtune", report.slimtune],
    ["Node", report.node],
    ["System", report.os],
    ["CPU", cpu.model],
    ["Cores", `${cpu.physical_cores} physical, ${cpu.logical_cores} logical${usable}`],
    ["Instruction sets", cpu.instruction_sets.join(", ") || "none of those that LibTorch has kernels for"],
    ["Memory", `${gib(memory.total)}, ${gib(memory.available)} available${limit}`],
    ...report.nvidia_gpus.map((gpu): [string, string] => ["NVIDIA GPU", gpu]),
    ["LibTorch", libtorch ? `${libtorch.version} (${libtorch.variant}), ${libtorch.root}` : "not found"],
    ...(libtorch
      ? [
          [
            "",
            libtorch.built_against ? `found by: ${libtorch.how}` : `found by: ${libtorch.how}; setup would take it`,
          ] as [string, string],
        ]
      : report.libtorch_attempts.map(({ where, reason }): [string, string] => ["", `${where}: ${reason}`])),
    ["Native bridge", addonLine(addon)],
    ["Engine", engine ? `LibTorch ${engine.torch_version}, kernels for ${engine.cpu_capability}` : "not running"],
  ];
  if (engine) lines.push(["Devices", engine.devices.join(", ")], ["Threads", String(engine.threads)]);
  lines.push(
    ["Python", tools.python ?? "not found (needed only to download LibTorch)"],
    ["pip", tools.pip ?? "not found (needed only to download LibTorch)"],
    ["CMake", tools.cmake ?? "not found (needed to build)"],
    ["Ninja", tools.ninja ?? "not found (make will do)"],
    ["C++ compiler", tools.compiler ?? "not found (needed to build)"],
    ["Cache", `${cache.path}, ${gib(cache.free)} free on its disk`],
  );
  const width = Math.max(...lines.map(([label]) => label.length));
  return [...lines.map(([label, value]) => `${label.padEnd(width)}  ${value}`), "", advice(report)].join("\n");
}

function addonLine(addon: DoctorReport["addon"]): string {
  if (!addon.built) return "not built";
  if (!addon.loads) return `does not work: ${addon.reason}`;
  return addon.up_to_date ? `${addon.path}, loads` : `${addon.path}, loads, but is not of these sources`;
}

function advice(report: DoctorReport): string {
  if (!report.addon.built) return "Not ready. Run: npx slimtune setup";
  if (!report.ready) return "Not ready. Run: npx slimtune setup --force";
  if (!report.addon.up_to_date) return "Ready; to rebuild from the present sources: npx slimtune setup";
  return "Ready.";
}
