import assert from "node:assert/strict";
import { createTokenizer, loadTokenizer } from "../../pipeline/tokenizer.ts";
import { fixtureUrl, readJson } from "../read_fixture.ts";

const folder = fixtureUrl("tokenizer").pathname;
const embedded = new URL("../../models/default/tokenizer", import.meta.url).pathname;

for (
  const [name, vocabulary, prompts] of [
    ["the fixture's vocabulary", folder, "tokenizer/prompts.json.gz"],
    ["the embedded bundle's", embedded, "reference/prompts.json.gz"],
  ] as const
) {
  Deno.test(`500 prompts get the ids that transformers' CLIPTokenizer gives, ${name}`, async () => {
    const tokenizer = await loadTokenizer(vocabulary);
    const expected = readJson<{ text: string; ids: number[] }[]>(prompts);
    assert.equal(expected.length, 500);
    const wrong = expected.filter(({ text, ids }) => tokenizer.encode(text).join() !== ids.join());
    assert.deepEqual(
      wrong.map(({ text, ids }) => ({ text, ids: ids.join(), got: tokenizer.encode(text).join() })),
      [],
    );
  });
}

Deno.test("length, padding and single tokens are known", async () => {
  const tokenizer = await loadTokenizer(folder);
  assert.equal(tokenizer.maxLength, 64);
  assert.equal(tokenizer.padId, tokenizer.idOf("<|endoftext|>"));
  assert.equal(tokenizer.encode("sks")[1], tokenizer.idOf("sks</w>"));
  assert.equal(tokenizer.idOf("no such token"), undefined);
});

Deno.test("text is encoded whole, with lone surrogates replaced", async () => {
  const tokenizer = await loadTokenizer(folder);
  assert.equal(tokenizer.encode("woman ".repeat(500)).length, 502);
  assert.deepEqual(tokenizer.encode("a \ud83d b"), tokenizer.encode("a \ufffd b"));
});

Deno.test("a configuration without length or with an unknown padding token is refused", () => {
  const json = JSON.parse(Deno.readTextFileSync(`${folder}/tokenizer.json`));
  assert.throws(() => createTokenizer(json, { model_max_length: 1e30 }));
  assert.throws(() => createTokenizer(json, {}));
  assert.throws(() => createTokenizer(json, { model_max_length: 64, pad_token: "<pad>" }), /<pad>/);
  const padded = createTokenizer(json, { model_max_length: 64, pad_token: { content: "!" } });
  assert.equal(padded.padId, padded.idOf("!"));
});

Deno.test("of the tokenizer's two files the one at fault is named", async () => {
  const copy = await Deno.makeTempDir();
  const config = `${copy}/tokenizer_config.json`;
  try {
    await assert.rejects(loadTokenizer(copy), { code: "file_missing", message: /tokenizer_config\.json/ });
    await Deno.writeTextFile(config, `{ "model_max_length": 1e30 }`);
    await assert.rejects(loadTokenizer(copy), { code: "file_invalid", message: /_config\.json.*model_max/ });
    await Deno.copyFile(`${folder}/tokenizer_config.json`, config);
    await assert.rejects(loadTokenizer(copy), { code: "file_missing", message: /tokenizer\.json/ });
    await Deno.writeTextFile(`${copy}/tokenizer.json`, "{");
    await assert.rejects(loadTokenizer(copy), { code: "file_invalid", message: /tokenizer\.json/ });
  } finally {
    await Deno.remove(copy, { recursive: true });
  }
});
