export { resolveDataset } from "./dataset.js";
export { resolveModel } from "./model.js";
export type { HubOptions, HubProgress } from "./snapshot.js";
