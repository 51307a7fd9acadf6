import { Command } from "commander";
import { examineSystem } from "../setup/doctor.js";
import { formatReport } from "../setup/report.js";

/** `slimtune doctor`: prints what slimtune found on this machine; exit status 1 when it cannot train here yet. */
export function doctorCommand(): Command {
  return new Command("doctor")
    .description("show versions, devices, threads, instruction sets, memory, and what is missing")
    .option("--json", "as JSON")
    .action(async (options: { json?: boolean }) => {
      const report = await examineSystem();
      process.stdout.write(`${options.json ? JSON.stringify(report, null, 2) : formatReport(report)}\n`);
      if (!report.ready) process.exitCode = 1;
    });
}
