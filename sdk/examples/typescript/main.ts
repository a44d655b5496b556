/**
 * deno run -A sdk/examples/typescript/main.ts PHOTO PROMPT CLASS_NOUN FOLDER
 *
 * With the service's address in IDADAPTER_URL and a token in IDADAPTER_TOKEN. Node.js runs it as well.
 */

import { mkdir, writeFile } from "node:fs/promises";
import process from "node:process";
import sharp from "sharp";
import { checkPhoto, connect, fetchImages, followGeneration, startGeneration } from "./portraits.ts";

/** What `scalePhoto` of scale_photo.ts is in a browser. */
async function scalePhotoFile(path: string, longestSide = 1024): Promise<Blob> {
  const size = { width: longestSide, height: longestSide };
  const photo = await sharp(path).rotate().resize({ ...size, fit: "inside", withoutEnlargement: true })
    .jpeg({ quality: 90 }).toBuffer();
  return new Blob([new Uint8Array(photo)], { type: "image/jpeg" });
}

const [path, prompt, classNoun, folder] = process.argv.slice(2);
const { IDADAPTER_URL: address, IDADAPTER_TOKEN: token } = process.env;
if (!path || !prompt || !classNoun || !folder || !address || !token) {
  console.error("main.ts PHOTO PROMPT CLASS_NOUN FOLDER, with IDADAPTER_URL and IDADAPTER_TOKEN");
  process.exit(2);
}

await mkdir(folder, { recursive: true });
connect(address, () => token);
const photo = await scalePhotoFile(path);
const { problems } = await checkPhoto(photo);
for (const { message } of problems) console.log(message);
if (problems.some(({ blocking }) => blocking)) process.exit(1);

// an app keeps the key until it has the portraits
const key = crypto.randomUUID();
const id = await startGeneration(photo, { prompt, class_noun: classNoun }, key);
console.error(id);
const generation = await followGeneration(id, ({ stage, step, steps }) => console.log(stage, step, steps));
for (const [index, image] of (await fetchImages(generation)).entries()) {
  const file = `${folder}/portrait_${generation.images[index]!.seed}.png`;
  await writeFile(file, new Uint8Array(await image.arrayBuffer()));
  console.log(file);
}
