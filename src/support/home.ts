import { homedir } from "node:os";

/** `~` and `~/x` are in the home folder; any other path stays as it is. */
export const expandHome = (path: string): string => (/^~(?=$|[/\\])/.test(path) ? homedir() + path.slice(1) : path);
