/** Figures, counts and paths as a person reads them. */
import { isAbsolute, relative } from "node:path";

/** A path below the current folder as seen from there; any other as it is. */
export function nearPath(path: string): string {
  if (!isAbsolute(path)) return path;
  const near = relative(process.cwd(), path);
  return near === "" || near.startsWith("..") || isAbsolute(near) ? path : near;
}

/** `1 update`, `2 updates`, `1,000 updates`. */
export const plural = (count: number, one: string, many = `${one}s`): string =>
  `${count.toLocaleString("en-US")} ${count === 1 ? one : many}`;

/** 312, 1.1k, 12.3k, 1.2M: three digits at most. */
export function briefCount(value: number): string {
  const [scaled, unit] = value < 999.5 ? [value, ""] : value < 999_950 ? [value / 1e3, "k"] : [value / 1e6, "M"];
  return `${scaled < 99.95 && unit !== "" ? scaled.toFixed(1) : Math.round(scaled)}${unit}`;
}

/** 0.4813, 12.3457; 4.81e-5 where fixed digits would lose it. */
export const briefLoss = (value: number): string =>
  value === 0 || (Math.abs(value) >= 1e-3 && Math.abs(value) < 1e6) ? value.toFixed(4) : briefRate(value);

/** 1.97e-3; 0 and what is not finite as they are. */
export const briefRate = (value: number): string =>
  value === 0 || !Number.isFinite(value) ? String(value) : value.toExponential(2);
