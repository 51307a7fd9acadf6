import { Command, InvalidArgumentError } from "commander";
import { runSetup } from "../setup/setup.js";
import { ACCEPTED_VERSIONS, PINNED_VERSION } from "../setup/versions.js";

/** `slimtune setup`: finds or fetches LibTorch and builds the native addon. */
export function setupCommand(): Command {
  return new Command("setup")
    .description(
      `find LibTorch ${ACCEPTED_VERSIONS} or fetch ${PINNED_VERSION}, and build the native bridge against it`,
    )
    .option("--libtorch <dir>", "use this LibTorch folder (also: environment variable LIBTORCH)")
    .option("--variant <name>", "cpu, or a CUDA version such as cu126 or cu130")
    .option("--jobs <n>", "compiler processes at once (default: one for each core)", positiveInteger)
    .option("--force", "look for LibTorch again and build from scratch")
    .action(async (options: { libtorch?: string; variant?: string; jobs?: number; force?: boolean }) => {
      await runSetup(options);
    });
}

function positiveInteger(text: string): number {
  if (!/^[1-9]\d*$/.test(text)) throw new InvalidArgumentError("It must be a whole number of at least 1.");
  return Number(text);
}
