/** One portrait by the pipeline from a cold start: load, warm up as the service does, generate, write a PNG. */

import { startInference } from "../../pipeline/client.ts";
import { portraitRequest } from "./portrait_request.ts";

const [bundle, photo, picture, threads, steps] = Deno.args as [string, string, string, string, string];
const inference = await startInference({ bundle, provider: "cpu", threads: Number(threads) });
const request = await portraitRequest(bundle, photo);
const { images: [image] } = await inference.generate({ ...request, numInferenceSteps: Number(steps) });
await Deno.writeFile(picture, image!.data);
await inference.close();
