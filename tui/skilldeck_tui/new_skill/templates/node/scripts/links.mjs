#!/usr/bin/env node
// Lists the links of a Markdown file: how many there are, then one a line.
import { readFileSync } from "node:fs";

const [file] = process.argv.slice(2);
if (!file) {
  console.error("usage: links.mjs FILE");
  process.exit(2);
}
let text;
try {
  text = readFileSync(file, "utf8");
} catch (error) {
  console.error(`${file} cannot be read: ${error.message}`);
  process.exit(2);
}
const links = [...text.matchAll(/\[[^\]]*\]\(([^()\s]+)\)/g)].map((match) => match[1]);
console.log(`links: ${links.length}`);
for (const link of links) console.log(link);
