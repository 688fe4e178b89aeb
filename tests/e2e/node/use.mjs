// What a Node program does with the official SDK: upload a skill and a file, stream a response through the helper.
// Prints one JSON object: the event types seen, the final response, and what a listing and a retrieval answer.
import fs from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(pathToFileURL(process.env.SDK_HOME + "/"));
const { default: OpenAI, toFile } = await import(pathToFileURL(require.resolve("openai")).href);

const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: "local", maxRetries: 0 });
const skill = await client.skills.create({ files: [fs.createReadStream(process.env.SKILL_ZIP)] });
const file = await client.files.create({ file: await toFile(Buffer.from("Ada"), "who.txt"), purpose: "user_data" });

const types = [];
const stream = client.responses.stream({
  model: "default",
  input: [
    {
      role: "user",
      content: [
        { type: "input_text", text: "Greet." },
        { type: "input_file", file_id: file.id },
      ],
    },
  ],
  tools: [
    {
      type: "shell",
      environment: { type: "container_auto", skills: [{ type: "skill_reference", skill_id: skill.id }] },
    },
  ],
});
for await (const event of stream) types.push(event.type);
const final = await stream.finalResponse();
const again = await client.responses.retrieve(final.id);

const replayed = [];
for await (const event of await client.responses.retrieve(final.id, { stream: true, starting_after: 2 })) {
  replayed.push(event.type);
}
const names = [];
for await (const listed of client.skills.list()) names.push(listed.name);
let refusal = null;
try {
  await client.responses.create({ model: "no-such-model", input: "x" });
} catch (error) {
  refusal = { status: error.status, param: error.param };
}
console.log(JSON.stringify({ types, final, again, replayed, names, refusal }));
