import assert from "node:assert/strict";
import type { Identity, ReferenceFeatures } from "../../models/mixed_features.ts";
import { zeros } from "../../models/tensor.ts";
import { quietPatches } from "../../pipeline/references.ts";

const mouth = { words: ["sad"], patches: [1, 3], bias: -4 };
const hat = { words: ["hat"], patches: [0, 1], bias: -2 };

/** A photo's features: 5 patches. */
const photo: ReferenceFeatures = {
  patch_features: zeros([1, 5, 2]),
  class_embedding: zeros([1, 2]),
  face_embedding: zeros([1, 3]),
};

function identity(bias: readonly number[]): Identity {
  return {
    identity_tokens: zeros([1, bias.length, 2]),
    identity_token_bias: { data: Float32Array.from(bias), dims: [1, bias.length] },
    identity_embedding: zeros([1, 2]),
  };
}

Deno.test("a quiet place is that of every photo, beside how often each counts, and no token of f_a", () => {
  const person = identity([0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2]);
  const quiet = quietPatches(person, [photo, photo], [mouth]);
  assert.deepEqual([...quiet.identity_token_bias.data], [0, 0, 1, -3, 1, -3, 1, 2, -2, 2, -2, 2]);
  assert.deepEqual(quiet.identity_token_bias.dims, [1, 12]);
  assert.equal(quiet.identity_tokens, person.identity_tokens);
  assert.deepEqual([...person.identity_token_bias.data].slice(0, 4), [0, 0, 1, 1], "the person's own stays");
  const both = quietPatches(person, [photo, photo], [mouth, hat]);
  assert.deepEqual([...both.identity_token_bias.data], [0, 0, -1, -5, 1, -3, 1, 0, -4, 2, -2, 2]);
  assert.equal(quietPatches(person, [photo, photo], []), person);
});

Deno.test("a bundle that names a patch that there is not is told so", () => {
  const wrong = { ...mouth, patches: [5] };
  assert.throws(() => quietPatches(identity([0, 0, 0, 0, 0, 0]), [photo], [hat, wrong]), {
    name: "BundleError",
    message: /patch 5/,
  });
});
