/** Names of models and datasets on a hub. */

// The rules of huggingface_hub: one or two names of word characters, dots and dashes, which stand inside alone.
const HUB_ID = /^\w(?:[\w.-]*\w)?(?:\/\w(?:[\w.-]*\w)?)?$/;

/** Whether a text can be the id of a repository: "name" or "organisation/name". */
export const isHubId = (text: string): boolean => HUB_ID.test(text) && !text.includes("--") && !text.includes("..");
