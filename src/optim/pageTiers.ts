/** Between which two memories the pages of a paged optimizer move. */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { UserError } from "../support/errors.js";
import { type Device, PageStore } from "../torch/index.js";

export interface PageTier {
  /** Where the optimizer computes. */
  device: Device;
  /** Whether the store holds the pages that stay too, and keeps as many as it can without a budget. */
  keepsAll: boolean;
  /**
   * @param borders where pages begin, ascending from 0, and where the last one ends
   * @throws UserError when there is no room
   */
  open(borders: readonly number[]): PageStore;
  /** What becomes of pages when the person has set no budget. */
  unlimited: string;
}

const mebibytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
const reason = (error: unknown) => (error as Error).message.split("\n")[0];

/** RAM, and a file in a folder. */
export function diskTier(folder: string): PageTier {
  return {
    device: "cpu",
    keepsAll: true,
    unlimited: "moved to disk by the system when memory runs short",
    open(borders) {
      const path = join(folder, `.optimizer-pages-${process.pid}-${randomBytes(4).toString("hex")}`);
      try {
        return PageStore.onDisk(path, borders.at(-1)!);
      } catch (error) {
        throw new UserError(
          `optim: the pages of a paged optimizer need ${mebibytes(borders.at(-1)!)} in output_dir: ${reason(error)}. Make room, choose another output_dir, or use adamw_torch_fused.`,
        );
      }
    },
  };
}

/** A device's memory, and the host's. */
export function hostTier(device: Device): PageTier {
  return {
    device,
    keepsAll: false,
    unlimited: "all come and go in every update; page_budget in optim_args keeps some on the device",
    open(borders) {
      try {
        return PageStore.onHost(device, borders);
      } catch (error) {
        throw new UserError(
          `optim: the pages of a paged optimizer need ${mebibytes(borders.at(-1)!)} of the host's memory and two buffers on ${device}: ${reason(error)}. Raise page_budget in optim_args where ${device} has room, close other programs, or use an 8-bit optimizer.`,
        );
      }
    },
  };
}
