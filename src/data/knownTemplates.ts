/**
 * Chat templates of well-known models that do not mark what the assistant says, where it cannot be told from their text
 * turn by turn, or where TRL learns something else: the same templates with marks, as TRL 1.13 trains with them.
 */
import { createHash } from "node:crypto";

type Edit = readonly [find: string, replace: string];

const PHI: readonly Edit[] = [
  ["{{'<|assistant|>\n' + message['content']", "{{'<|assistant|>\n'}}{% generation %}{{message['content']"],
  ["'}}{% endif %}{% endfor %}", "'}}{% endgeneration %}{% endif %}{% endfor %}"],
  [
    "{% else %}{{ eos_token }}{% endif %}",
    "{% elif messages[-1]['role'] == 'assistant' %}{% generation %}{{ eos_token }}{% endgeneration %}{% else %}{{ eos_token }}{% endif %}",
  ],
];

const BEFORE_TOOL = `        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}`;
const END_BEFORE_TOOL = BEFORE_TOOL.replace("    {%- elif", "        {%- endgeneration %}\n    {%- elif");

/** By the SHA-256 of the template's text. */
const EDITS: Record<string, readonly Edit[]> = {
  // Qwen2.5: the assistant's part begins behind its name, with the end of that line.
  cd8e9439f0570856fd70470bf8889ebd8b5d1107207f67a5efb46e342330527f: [
    [' or (message.role == "assistant" and not message.tool_calls)', ""],
    [
      `        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}`,
      `        {{- '<|im_start|>' + message.role }}
        {%- generation %}
        {%- if message.content or not message.tool_calls %}`,
    ],
    ["in message.tool_calls %}", "in message.tool_calls or [] %}"],
    [BEFORE_TOOL, END_BEFORE_TOOL],
  ],
  // Qwen3: every answer keeps its thoughts, or an empty place for them, wherever it stands in the conversation.
  a55ee1b1660128b7098723e0abcd92caa0788061051c62d51cbe87d9cf1974d8: [
    [
      `        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\\n<think>`,
      `        {%- if true %}
            {%- if true %}
                {{- '<|im_start|>' + message.role + '\\n' }}
                {%- generation %}
                {{- '<think>`,
    ],
    [BEFORE_TOOL, END_BEFORE_TOOL],
  ],
  // Phi-3: the end of the text belongs to the last answer.
  dcaee66df77bfbb789ec541fe713218da30225a526f1db97138fc39ee6dc56aa: PHI,
  // Phi-3.5
  "78d976a442bcde2f0be15aafbb8e3050e1104f86732266f68403251b89982a90": PHI,
};

/** The template with marks; undefined for one that is not known. */
export function markedTemplate(text: string): string | undefined {
  const edits = EDITS[createHash("sha256").update(text).digest("hex")];
  return edits?.reduce((edited, [find, replace]) => edited.replace(find, () => replace), text);
}
