// Every kind of item and event through the helpers of the official SDK, which throw on what they do not know.
// Prints one JSON object with what each helper gave.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(pathToFileURL(process.env.SDK_HOME + "/"));
const { default: OpenAI } = await import(pathToFileURL(require.resolve("openai")).href);
const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: "local", maxRetries: 0 });

const object = { type: "object", properties: { city: { type: "string" } }, required: ["city"], additionalProperties: false };
const tools = [
  { type: "function", name: "weather", parameters: object, strict: true },
  { type: "custom", name: "note" },
  { type: "code_interpreter", container: { type: "auto" } },
  { type: "shell", environment: { type: "container_auto" } },
];

async function through(stream) {
  const types = new Set();
  for await (const event of stream) types.add(event.type);
  return { types: [...types], final: await stream.finalResponse() };
}

const mixed = await through(
  client.responses.stream({ model: "default", input: "mixed", tools, include: ["reasoning.encrypted_content"] }),
);
const resumed = await through(client.responses.stream({ response_id: mixed.final.id }));
const shaped = await through(
  client.responses.stream({
    model: "default",
    input: "shaped",
    text: { format: { type: "json_schema", name: "place", schema: object, strict: true } },
  }),
);
const short = await through(client.responses.stream({ model: "default", input: "short", max_output_tokens: 16 }));

const background = await client.responses.create({ model: "default", input: "endless", background: true });
const cancelled = await client.responses.cancel(background.id);

const chat = client.chat.completions.stream({
  model: "default",
  messages: [{ role: "user", content: "chat" }],
  tools: [{ type: "function", function: { name: "weather", parameters: object } }],
  stream_options: { include_usage: true },
});
const completion = await chat.finalChatCompletion();
const usage = await chat.totalUsage();

console.log(JSON.stringify({ mixed, resumed, shaped, short, cancelled: cancelled.status, completion, usage }));
