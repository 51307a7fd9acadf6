export { loadConfig, type RunConfig } from "./load.js";
export { type Override, parseCommandLine } from "./overrides.js";
export { configJsonSchema } from "./schema.js";
