// Holds docs/asyncapi.yaml against AsyncAPI's own parser: node check.mjs FILE
// Prints every finding above the level of a hint and fails on errors and warnings.
import { fromFile, Parser } from "@asyncapi/parser";

const [file] = process.argv.slice(2);
const parser = new Parser();
const { document, diagnostics } = await fromFile(parser, file).parse();
const grave = diagnostics.filter(({ severity }) => severity <= 1);
for (const { code, message, path } of grave) console.error(`${path.join(".")}: ${message} (${code})`);
if (!document || grave.length > 0) process.exit(1);
const counts = [
  [document.channels().all(), "channels"],
  [document.operations().all(), "operations"],
  [document.messages().all(), "messages"],
].map(([all, name]) => `${all.length} ${name}`);
console.log(`${file}: valid AsyncAPI ${document.version()}, ${counts.join(", ")}`);
