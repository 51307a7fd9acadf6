/**
 * True for a relative path, written with `/`, that stays below the folder it is joined to under the rules of every
 * platform: no `..`, no absolute, drive or UNC form, no backslash, no control character. For names that come from files
 * or servers.
 */
export function isPlainPath(name: string): boolean {
  if (name === "" || /[\\\p{Cc}]/u.test(name)) return false;
  return name.split("/").every((part) => part !== "" && part !== "." && part !== ".." && !/^[a-z]:/i.test(part));
}
