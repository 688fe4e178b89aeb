// The official SDKs for Node with their helpers: runners of tools, streams put together, schemas; which, by argument.
import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';

const DATA = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';
const NUMBERS = {
  type: 'object',
  properties: { a: { type: 'integer' }, b: { type: 'integer' } },
  required: ['a', 'b'],
  additionalProperties: false,
};
const PERSON = {
  type: 'object',
  properties: { name: { type: 'string' }, age: { type: 'integer' } },
  required: ['name', 'age'],
  additionalProperties: false,
};
const add = ({ a, b }) => String(a + b);

const chat = async () => {
  const client = new OpenAI({ baseURL: process.env.BASE, apiKey: 'local', maxRetries: 0 });
  const ask = (content, more = {}) =>
    client.chat.completions.create({ model: 'default', messages: [{ role: 'user', content }], ...more });
  const tools = [
    { type: 'function', function: { name: 'add', description: 'Add', parameters: NUMBERS, parse: JSON.parse, function: add } },
  ];
  const sums = (content, stream) =>
    client.chat.completions
      .runTools({ model: 'default', messages: [{ role: 'user', content }], tools, stream })
      .finalContent();
  const stream = client.chat.completions.stream({ model: 'default', messages: [{ role: 'user', content: 'hi' }] });
  const format = { type: 'json_schema', json_schema: { name: 'person', schema: PERSON, strict: true } };
  const image = [{ type: 'text', text: 'what?' }, { type: 'image_url', image_url: { url: `data:image/png;base64,${DATA}` } }];
  return {
    text: (await ask('hi')).choices[0].message.content,
    stream: (await stream.finalContent()),
    one: await sums('add', false),
    both: await sums('both', false),
    'streamed sums': await sums('both', true),
    person: JSON.parse((await ask('who?', { response_format: format })).choices[0].message.content),
    image: (await ask(image)).choices[0].message.content,
  };
};

const responses = async () => {
  const client = new OpenAI({ baseURL: process.env.BASE, apiKey: 'local', maxRetries: 0 });
  const tools = [{ type: 'function', name: 'add', description: 'Add', parameters: NUMBERS, strict: true }];
  const ask = (input, more = {}) => client.responses.create({ model: 'default', input, ...more });
  const sums = async (input) => {
    const asked = await client.responses.stream({ model: 'default', input, tools }).finalResponse();
    const outputs = asked.output
      .filter((item) => item.type === 'function_call')
      .map((item) => ({ type: 'function_call_output', call_id: item.call_id, output: add(JSON.parse(item.arguments)) }));
    return (await ask(outputs, { previous_response_id: asked.id, tools })).output_text;
  };
  const format = { type: 'json_schema', name: 'person', schema: PERSON, strict: true };
  const parts = [
    { type: 'input_text', text: 'what?' },
    { type: 'input_image', detail: 'auto', image_url: `data:image/png;base64,${DATA}` },
  ];
  return {
    text: (await ask('hi')).output_text,
    stream: (await client.responses.stream({ model: 'default', input: 'hi' }).finalResponse()).output_text,
    one: await sums('add'),
    both: await sums('both'),
    person: (await client.responses.parse({ model: 'default', input: 'who?', text: { format } })).output_parsed
      ?? JSON.parse((await ask('who?', { text: { format } })).output_text),
    image: (await ask([{ role: 'user', content: parts }])).output_text,
  };
};

const anthropic = async () => {
  const client = new Anthropic({ baseURL: process.env.BASE.replace(/\/v1$/, ''), apiKey: 'local', maxRetries: 0 });
  const body = (content) => ({ model: 'claude-sonnet-4-5', max_tokens: 500, messages: [{ role: 'user', content }] });
  const text = (message) => message.content.map((block) => block.text ?? '').join('');
  const tool = { name: 'add', description: 'Add', input_schema: NUMBERS, run: async (given) => add(given), parse: (given) => given };
  const sums = async (content) => text(await client.beta.messages.toolRunner({ ...body(content), tools: [tool] }));
  const streamed = client.beta.messages.toolRunner({ ...body('both'), tools: [tool], stream: true });
  const image = [
    { type: 'text', text: 'what?' },
    { type: 'image', source: { type: 'base64', media_type: 'image/png', data: DATA } },
  ];
  return {
    text: text(await client.messages.create(body('hi'))),
    stream: await client.messages.stream(body('hi')).finalText(),
    one: await sums('add'),
    both: await sums('both'),
    'streamed sums': text(await streamed.runUntilDone()),
    image: text(await client.messages.create(body(image))),
  };
};

console.log('\n' + JSON.stringify(await { chat, responses, anthropic }[process.argv[2]]()));
