import assert from "node:assert/strict";
import {
  composePrompt,
  defaultNegativePrompt,
  encodePrompt,
  encodeWords,
  toldPlaces,
  toldView,
} from "../../pipeline/prompt.ts";
import { PipelineError } from "../../pipeline/protocol.ts";
import { loadTokenizer } from "../../pipeline/tokenizer.ts";
import { fixtureUrl } from "../read_fixture.ts";

const tokenizer = await loadTokenizer(fixtureUrl("tokenizer").pathname);
const words = { classNoun: "woman", identifier: "sks" };
const sks = BigInt(tokenizer.idOf("sks</w>")!);

Deno.test("the identifier is appended as the paper says", () => {
  assert.equal(composePrompt("  a photo\n", "woman", "sks"), "a photo, woman is sks");
});

Deno.test("a prompt becomes a padded row that knows where the identifier stands", () => {
  const { inputIds, identifierPosition, tokens } = encodePrompt(tokenizer, "a photo", words);
  const expected = tokenizer.encode("a photo, woman is sks");
  assert.equal(inputIds.length, tokenizer.maxLength);
  assert.equal(tokens, expected.length);
  assert.deepEqual([...inputIds.subarray(0, tokens)].map(Number), expected);
  assert.ok(inputIds.subarray(tokens).every((id) => id === BigInt(tokenizer.padId)));
  assert.equal(inputIds[identifierPosition], sks);
  assert.equal(identifierPosition, tokens - 2);
});

Deno.test("a caller's own identifier does not take the identity", () => {
  const { inputIds, identifierPosition, tokens } = encodePrompt(tokenizer, "SKS is not sks, sks", words);
  assert.equal(inputIds.filter((id) => id === sks).length, 4);
  assert.equal(identifierPosition, tokens - 2);
});

Deno.test("a negative prompt has no identifier and may be empty", () => {
  const { inputIds, identifierPosition, tokens } = encodeWords(tokenizer, "");
  assert.equal(identifierPosition, -1);
  assert.equal(tokens, 2);
  assert.deepEqual([...inputIds.subarray(0, 2)].map(Number), tokenizer.encode(""));
});

Deno.test("empty prompts are refused", () => {
  for (const prompt of ["", " \n\t "]) {
    assert.throws(
      () => encodePrompt(tokenizer, prompt, words),
      (error) => error instanceof PipelineError && error.code === "prompt_empty",
    );
  }
});

Deno.test("prompts fit to the last token and are refused, not cut, beyond it", () => {
  const room = tokenizer.maxLength - encodePrompt(tokenizer, "a", words).tokens + 1;
  assert.equal(encodePrompt(tokenizer, "a ".repeat(room), words).tokens, 64);
  const tooLong = (error: unknown) => {
    assert.ok(error instanceof PipelineError);
    assert.equal(error.code, "prompt_too_long");
    assert.deepEqual(error.details, { tokens: 65, limit: 64 });
    return true;
  };
  assert.throws(() => encodePrompt(tokenizer, "a ".repeat(room + 1), words), tooLong);
  assert.throws(() => encodeWords(tokenizer, "a ".repeat(63)), tooLong);
});

Deno.test("an identifier that is not one token is the bundle's fault, not the caller's", () => {
  assert.throws(
    () => encodePrompt(tokenizer, "a", { classNoun: "woman", identifier: "zqxv" }),
    (error) => error instanceof Error && !(error instanceof PipelineError),
  );
});

Deno.test("a prompt tells a view by whole words, whatever their case", () => {
  const words = { left: ["left"], right: ["right"], other: ["facing", "camera"], sided: ["hand", "cheek"] };
  const views = {
    "a woman, Facing right": "right",
    "a profile,left.": "left",
    "facing right, then left": "other",
    "left hand up, facing right": "right",
    "a mole on her LEFT cheek": undefined,
    "right cheek, to the right": "right",
    "facing the camera": "other",
    "a woman defacing a cleft": undefined,
    "": undefined,
  };
  for (const [prompt, view] of Object.entries(views)) assert.equal(toldView(prompt, words), view, prompt);
  assert.equal(toldView("facing left", { left: [], right: [], other: [], sided: [] }), undefined);
});

Deno.test("a prompt tells of places by whole words, whatever their case", () => {
  const mouth = { words: ["sad", "angry"], patches: [1], bias: -4 };
  const hat = { words: ["hat"], patches: [0], bias: -4 };
  const prompts = {
    "is SAD.": [mouth],
    "a very angry woman, sad": [mouth],
    "a saddle, chatting": [],
    "": [],
    "in a hat, angry": [mouth, hat],
  };
  for (const [prompt, places] of Object.entries(prompts)) {
    assert.deepEqual(toldPlaces(prompt, [mouth, hat]), places, prompt);
  }
  assert.deepEqual(toldPlaces("sad", []), []);
});

Deno.test("the default negative prompt stays away from drawings, by whole words, whatever their case", () => {
  const model = { defaults: { negative_prompt: "a cartoon" }, drawing_words: ["sketch", "comic"] };
  const prompts = {
    "a woman": "a cartoon",
    "A SKETCH, smiling": "",
    "a comical woman": "a cartoon",
    "": "a cartoon",
  };
  for (const [prompt, expected] of Object.entries(prompts)) {
    assert.equal(defaultNegativePrompt(prompt, model), expected, prompt);
  }
  assert.equal(defaultNegativePrompt("a sketch", { ...model, drawing_words: [] }), "a cartoon");
});
