export { defineConfig } from "./define.js";
export { loadConfig, type RunConfig } from "./load.js";
export { type Override, parseCommandLine } from "./overrides.js";
export { configJsonSchema, configSchema } from "./schema.js";
