/**
 * One portrait by the pipeline from a cold start: load, warm up as the service does with `MAX_BATCH=1` (otherwise it
 * measures batches first), generate, write a PNG.
 */

import { dirname, join } from "node:path";
import { startInference } from "../../pipeline/client.ts";
import { portraitRequest, readBenchOptions, workerSettings } from "./portrait_request.ts";

const [picture, ...args] = Deno.args as [string, ...string[]];
const options = readBenchOptions(args, {});
const inference = await startInference({
  ...workerSettings(options),
  maxBatch: 1,
  cacheFolder: join(dirname(picture), "graphs"),
});
const { images: [image] } = await inference.generate(await portraitRequest(options));
await Deno.writeFile(picture, image!.data);
await inference.close();
