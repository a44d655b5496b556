import { deepEqual, equal, match, throws } from "node:assert/strict";
import { type DemoOptions, parseDemoOptions, usage, UsageError } from "../../demo/options.ts";

const folders = { repository: "/src/idadapter", caller: "/home/me" };

function options(...args: string[]): DemoOptions {
  const parsed = parseDemoOptions(args, folders);
  if (parsed === "help") throw new Error("help was not asked for");
  return parsed;
}

Deno.test("without options: the photo of the repository, a portrait of each of eight prompts, the model's own steps", () => {
  const { photo, out, prompts, count, steps, seed } = options();
  equal(photo, "/src/idadapter/tests/fixtures/face.png");
  equal(out, "/src/idadapter/out/demo");
  deepEqual({ count, steps, seed }, { count: 1, steps: undefined, seed: 1 });
  equal(new Set(prompts).size, 8);
});

Deno.test("every option is taken, paths from where the caller stands", () => {
  const args = [
    "--photo",
    "me.jpg",
    "--prompt",
    "a pencil sketch",
    "--class-noun=woman",
    "--seed",
    "4294967287",
  ];
  deepEqual(options(...args, "--steps", "100", "--count=8", "--out", "../faces"), {
    photo: "/home/me/me.jpg",
    prompts: ["a pencil sketch"],
    classNoun: "woman",
    seed: 4_294_967_287,
    steps: 100,
    count: 8,
    out: "/home/faces",
  });
});

Deno.test("the sample photo is of a woman; of anybody else nothing is assumed", () => {
  const noun = (...args: string[]) => [options(...args).classNoun, options(...args).prompts[1]];
  deepEqual(noun(), ["woman", "a photo of a woman, smiling"]);
  deepEqual(noun("--photo", "me.jpg"), ["person", "a photo of a person, smiling"]);
  deepEqual(noun("--class-noun", "man"), ["man", "a photo of a man, smiling"]);
});

Deno.test("several prompts are taken in their order, four portraits of each unless a count is given", () => {
  const given = ["--prompt", "smiling", "--prompt=sad"];
  deepEqual(options(...given).prompts, ["smiling", "sad"]);
  deepEqual([options(...given).count, options(...given, "--count", "2").count], [4, 2]);
  equal(options("--count", "2").count, 2);
});

Deno.test("npm's `--` before the options does no harm", () => {
  equal(options("--", "--seed", "5").seed, 5);
});

Deno.test("--help wins over what stands beside it", () => {
  equal(parseDemoOptions(["--help", "--seed", "5"], folders), "help");
  for (const name of ["photo", "prompt", "class-noun", "seed", "steps", "count", "out", "help"]) {
    match(usage, new RegExp(`^  --${name} `, "m"));
  }
});

Deno.test("a wrong option is named, with what it takes", () => {
  const wrong: [args: string[], message: RegExp][] = [
    [["--count", "9"], /--count must be a whole number from 1 to 8, not 9/],
    [["--count", "0"], /--count must be/],
    [["--count", "two"], /--count must be .* not two/],
    [["--steps", "101"], /--steps must be a whole number from 1 to 100/],
    [["--steps", "2.5"], /--steps must be/],
    [["--seed=-1"], /--seed must be a whole number from 0/],
    [["--seed", "4294967288", "--prompt", "smiling"], /--seed must be a whole number from 0 to 4294967287/],
    [["--seed", "4294967281", "--count", "2"], /--seed must be a whole number from 0 to 4294967273/],
    [["--seed", ""], /--seed must be/],
    [["--prompt", " "], /--prompt must not be empty/],
    [["--prompt", "smiling", "--prompt", ""], /--prompt must not be empty/],
    [["--class-noun", ""], /--class-noun must not be empty/],
    [["--photo"], /--photo/],
    [["--colour", "red"], /--colour/],
    [["me.jpg"], /me\.jpg/],
  ];
  for (const [args, message] of wrong) {
    throws(
      () => parseDemoOptions(args, folders),
      (error) => error instanceof UsageError && message.test(error.message),
      args.join(" "),
    );
  }
});
