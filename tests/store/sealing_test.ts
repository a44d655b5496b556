import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { createSealer, SealError } from "../../store/sealing.ts";

const key = (fill: number) => new Uint8Array(32).fill(fill);
const photo = new TextEncoder().encode("a photo of a face");

Deno.test("what is sealed opens for its owner alone", async () => {
  const sealer = await createSealer([key(1)]);
  const sealed = await sealer.seal(photo, "gen_1");
  ok(!new TextDecoder().decode(sealed).includes("photo"));
  deepEqual(await sealer.open(sealed, "gen_1"), photo);
  await rejects(sealer.open(sealed, "gen_2"), SealError);
  for (const at of [5, sealed.length - 1]) {
    await rejects(sealer.open(sealed.with(at, sealed[at]! ^ 1), "gen_1"), SealError);
  }
  ok((await sealer.seal(photo, "gen_1")).toHex() !== sealed.toHex(), "a nonce is never used twice");
});

Deno.test("a key is replaced without losing what the old one sealed", async () => {
  const old = await createSealer([key(1)]);
  const both = await createSealer([key(2), key(1)]);
  const renewed = await createSealer([key(2)]);
  const sealed = await old.seal(photo, "o");
  deepEqual(await both.open(sealed, "o"), photo);
  deepEqual(await renewed.open(await both.seal(photo, "o"), "o"), photo);
  await rejects(renewed.open(sealed, "o"), SealError);
});

Deno.test("keys have 32 bytes", async () => {
  await rejects(createSealer([new Uint8Array(16)]), RangeError);
  await rejects(createSealer([]), RangeError);
  equal((await (await createSealer([key(3)])).seal(new Uint8Array(), "o")).length, 4 + 12 + 16);
});
