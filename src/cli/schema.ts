import { Command } from "commander";

/** `slimtune schema`: the JSON Schema of the config file, for editors. */
export function schemaCommand(): Command {
  return new Command("schema")
    .description("print the JSON Schema of the config file, for completion and checks in an editor")
    .action(async () => {
      const { configJsonSchema } = await import("../config/index.js");
      process.stdout.write(`${JSON.stringify(configJsonSchema(), null, 2)}\n`);
    });
}
