// LibreChat's way of asking an endpoint of its `custom` list: the graph of @librechat/agents with a client for OpenAI.
import { HumanMessage } from '@langchain/core/messages';
import { tool } from '@langchain/core/tools';
import { GraphEvents, Providers, Run, TitleMethod, ToolEndHandler } from '@librechat/agents';
import { z } from 'zod';

const add = tool(async ({ a, b }) => String(a + b), {
  name: 'add',
  description: 'Add two numbers.',
  schema: z.object({ a: z.number(), b: z.number() }),
});
const PNG = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';
const llmConfig = {
  provider: Providers.OPENAI,
  model: 'default',
  apiKey: 'local',
  streaming: true,
  streamUsage: true,
  user: 'a',
  configuration: { baseURL: process.env.BASE, defaultHeaders: {} },
};
const ask = async (content, tools = []) => {
  const pieces = [];
  const run = await Run.create({
    runId: `run-${Math.random()}`,
    graphConfig: { type: 'standard', llmConfig, tools, instructions: 'You help.' },
    returnContent: true,
    customHandlers: {
      [GraphEvents.TOOL_END]: new ToolEndHandler(),
      [GraphEvents.ON_MESSAGE_DELTA]: {
        handle: (_event, data) => pieces.push(...data.delta.content.map((part) => part.text ?? '')),
      },
    },
    skipCleanup: true,
  });
  const config = { configurable: { thread_id: 't', user_id: 'u' }, streamMode: 'values', version: 'v2' };
  const parts = await run.processStream({ messages: [new HumanMessage({ content })] }, config);
  return { run, text: (parts ?? []).map((part) => part.text ?? '').join(''), pieces: pieces.join('') };
};
const hi = await ask('hi');
const title = await hi.run.generateTitle({
  provider: Providers.OPENAI,
  inputText: 'hi',
  contentParts: [{ type: 'text', text: hi.text }],
  titleMethod: TitleMethod.COMPLETION,
  clientOptions: { ...llmConfig, streaming: false },
});
const image = [
  { type: 'text', text: 'what?' },
  { type: 'image_url', image_url: { url: `data:image/png;base64,${PNG}`, detail: 'auto' } },
];
console.log(
  '\n' +
    JSON.stringify({
      text: hi.text,
      stream: hi.pieces,
      one: (await ask('add', [add])).text,
      both: (await ask('both', [add])).text,
      image: (await ask(image)).text,
      title: title.title,
    }),
);
process.exit(0);
