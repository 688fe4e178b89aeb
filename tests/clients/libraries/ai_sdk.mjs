// Vercel's AI SDK: @ai-sdk/openai (Responses, Chat), @ai-sdk/openai-compatible, @ai-sdk/anthropic; which, by argument.
import { generateObject, generateText, stepCountIs, streamText, tool } from 'ai';
import { createAnthropic } from '@ai-sdk/anthropic';
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { z } from 'zod';

const PNG = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';
const settings = { baseURL: process.env.BASE, apiKey: 'local' };
const model = {
  responses: () => createOpenAI(settings).responses('default'),
  chat: () => createOpenAI(settings).chat('default'),
  compatible: () => createOpenAICompatible({ ...settings, name: 'deck', supportsStructuredOutputs: true })('default'),
  anthropic: () => createAnthropic(settings)('claude-sonnet-4-5'),
}[process.argv[2]]();
const add = tool({
  description: 'Add two numbers.',
  inputSchema: z.object({ a: z.number().int(), b: z.number().int() }),
  execute: async ({ a, b }) => a + b,
});
const options = { model, maxRetries: 0 };
const text = async (result) => {
  let whole = '';
  for await (const piece of result.textStream) whole += piece;
  return whole;
};
const steps = (prompt, how) => how({ ...options, prompt, tools: { add }, stopWhen: stepCountIs(3) });
const found = {
  text: (await generateText({ ...options, prompt: 'hi' })).text,
  stream: await text(streamText({ ...options, prompt: 'hi' })),
  one: (await steps('add', generateText)).text,
  both: (await steps('both', generateText)).text,
  'streamed sums': await text(steps('both', streamText)),
  person: (
    await generateObject({ ...options, prompt: 'who?', schema: z.object({ name: z.string(), age: z.number() }) })
  ).object,
  image: (
    await generateText({
      ...options,
      messages: [{ role: 'user', content: [{ type: 'text', text: 'what?' }, { type: 'image', image: PNG }] }],
    })
  ).text,
};
console.log('\n' + JSON.stringify(found));
