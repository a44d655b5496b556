/** The real engine in the jobs room. */

import { deepEqual, equal, ok } from "node:assert/strict";
import sharp from "sharp";
import { accept } from "../../jobs/accept.ts";
import { imageKey } from "../../jobs/image_store.ts";
import { runGenerations } from "../../jobs/run.ts";
import { startInference } from "../../pipeline/client.ts";
import { bundleFolder, portrait, realBundle, sessionSettings, smallRequest } from "../real_bundle.ts";
import { openTestStore } from "../store/each_store.ts";
import { waitForEnd } from "./wait_for_end.ts";
import { openTestRoom, requestFrom } from "./test_room.ts";

const never = new AbortController().signal;

Deno.test("the real engine makes a portrait, or says what is wrong with the photo", async () => {
  const { manifest } = await realBundle();
  const inference = await startInference({ bundle: bundleFolder, ...sessionSettings });
  await using store = await openTestStore();
  await using room = await openTestRoom(store);
  await using _running = await runGenerations(room, {
    model: manifest.name,
    run: ({ input, previewInterval }, signal, onEvent) =>
      inference.generate(input, { signal, previewInterval, onEvent }),
  }, { concurrency: 2 });
  const photo = await portrait();
  const good = smallRequest(photo, { classNoun: manifest.class_nouns[0]!, numInferenceSteps: 2 });
  const grey = await sharp({ create: { width: 64, height: 64, channels: 3, background: "grey" } }).png()
    .toBuffer();
  const made = await accept(room, { ...requestFrom("alice"), input: good });
  const faceless = await accept(room, {
    ...requestFrom("alice"),
    input: { ...good, referenceImages: [new Uint8Array(grey)] },
  });
  const stages = new Set<string>();
  const row = await waitForEnd(room, made.id, never, (notice) => {
    if (notice?.event?.type === "progress") stages.add(notice.event.progress.stage);
  });
  equal(row.state, "succeeded");
  ok(stages.has("denoise"));
  const picture = await room.images.get(imageKey(made.id, 0));
  const { format, width, height } = await sharp(picture).metadata();
  deepEqual([format, width, height], ["png", manifest.image_size, manifest.image_size]);
  const failed = await waitForEnd(room, faceless.id, never);
  deepEqual([failed.state, failed.failure?.code], ["failed", "face_not_found"]);
  await inference.close();
});
