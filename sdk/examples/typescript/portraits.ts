/**
 * Portraits over a network that fails: each is made and paid for once, whatever happens to the connection. For browsers,
 * Deno and Node.js 22.18 or newer, on the client that `deno task sdk` generates.
 */

import { client } from "../../generated/typescript/client.gen.ts";
import {
  checkFace,
  createGeneration,
  type FaceReport,
  type Generation,
  type GenerationProgress,
  type GenerationRequest,
  getGeneration,
  getGenerationImage,
  type Problem,
  watchGeneration,
} from "../../generated/typescript/index.ts";

/** How often a call whose answer got lost is sent again, each time after twice as long. */
const attempts = 6;
const firstDelay = 250;
/** `Retry-After` is believed up to this, in seconds. */
const longestRetryAfter = 300;
/** A connection on which nothing came for so many milliseconds is lost. */
const silence = 30_000;
/** Refusals that pass by themselves; `Retry-After` says when. */
const passing = new Set([429, 503]);

const delay = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/**
 * Says where the service is, and as whom it is called.
 *
 * @param baseUrl `https://portraits.example.com`
 * @param token is asked for a token before each request: your backend gives short-lived ones
 */
export function connect(baseUrl: string, token: () => string | Promise<string>): void {
  client.setConfig({ baseUrl, auth: token, fetch: impatientFetch });
}

/** `fetch` that gives a connection up which is silent: the service sends something every 15 seconds while it works. */
const impatientFetch: typeof fetch = async (input, init) => {
  const request = new Request(input, init);
  const silent = new AbortController();
  const within = async <T>(answer: () => Promise<T>): Promise<T> => {
    const timer = setTimeout(() => silent.abort(new TypeError("nothing came for too long")), silence);
    try {
      return await answer();
    } finally {
      clearTimeout(timer);
    }
  };
  const signal = AbortSignal.any([request.signal, silent.signal]);
  const response = await within(() => fetch(request, { signal }));
  if (response.body === null) return response;
  const reader = response.body.getReader();
  const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
    async pull(controller) {
      const { done, value } = await within(() => reader.read());
      if (done) controller.close();
      else controller.enqueue(value);
    },
    cancel: (reason) => reader.cancel(reason),
  });
  return new Response(body, response);
};

/** What a call of the generated client came to. Without a response nobody answered. */
interface Outcome<Data> {
  readonly data?: Data | undefined;
  readonly error?: unknown;
  readonly response?: Response | undefined;
}

/** A refusal of the service's own (RFC 9457): decide by its `code`, show its `detail` and `remedy`. */
function isProblem(error: unknown): error is Problem {
  return typeof error === "object" && error !== null && "code" in error && "remedy" in error;
}

/** Calls until somebody answers; safe for whatever may be sent twice. */
async function insist<Data>(call: () => Promise<Outcome<Data>>): Promise<Data> {
  for (let attempt = 1;; attempt++) {
    const { data, error, response } = await call();
    if (response?.ok && data !== undefined) return data;
    // an answer that broke off has a response of 200 and an error
    const lost = response === undefined || response.ok || passing.has(response.status) ||
      // a proxy's 502 or 504: the service may have taken the request on
      (response.status >= 500 && !isProblem(error));
    if (!lost || attempt === attempts) {
      if (isProblem(error) || error instanceof Error) throw error;
      throw new Error(`Not the service answered, but what stands in front of it: ${response?.status}.`);
    }
    // a date is not a number: then our own delay will do; a proxy may say a day
    const seconds = Math.min(Number(response?.headers.get("Retry-After")) || 0, longestRetryAfter);
    await delay(Math.max(seconds * 1000, firstDelay * 2 ** (attempt - 1)));
  }
}

async function toBase64(photo: Blob): Promise<string> {
  let binary = "";
  for (const byte of new Uint8Array(await photo.arrayBuffer())) binary += String.fromCharCode(byte);
  return btoa(binary);
}

/**
 * Asks whether a photo will do, in a tenth of a second.
 *
 * @param photo scaled down
 * @returns `usable`, and in `problems` what to improve; `blocking` ones would be refused
 */
export async function checkPhoto(photo: Blob): Promise<FaceReport> {
  const image = await toBase64(photo);
  return await insist(() => checkFace({ body: { image } }));
}

/**
 * Asks for portraits, and does not wait for them.
 *
 * @param photo scaled down
 * @param wishes all fields but the photo
 * @param key names this wish: `crypto.randomUUID()`, kept until the portraits are there. Asking again with it, even after a
 * restart of the app, gives the same generation and costs nothing
 * @returns the generation's id
 */
export async function startGeneration(
  photo: Blob,
  wishes: Omit<GenerationRequest, "reference_images">,
  key: string,
): Promise<string> {
  const body = { ...wishes, reference_images: [await toBase64(photo)] };
  const headers = { "Idempotency-Key": key, Prefer: "respond-async" };
  const { id } = await insist(() => createGeneration({ body, headers }));
  return id;
}

/**
 * Follows a generation to its end. The generated client takes a stream that broke off up again with `Last-Event-ID`.
 *
 * @param id of the generation
 * @param onProgress is told of each stage and step
 * @returns the generation, finished
 * @throws a problem when it failed or was canceled
 */
export async function followGeneration(
  id: string,
  onProgress: (progress: GenerationProgress) => void,
): Promise<Generation> {
  let lastEventId: string | undefined;
  while (true) {
    const { stream } = await watchGeneration({
      path: { id },
      headers: lastEventId === undefined ? {} : { "Last-Event-ID": lastEventId },
      sseDefaultRetryDelay: firstDelay,
      sseMaxRetryAttempts: attempts,
      onSseEvent({ event, data, id }) {
        lastEventId = id;
        const parsed: unknown = data;
        if (event === "progress") onProgress(parsed as GenerationProgress);
      },
    });
    // what comes is told to onSseEvent, with its name; the stream has to be drawn all the same
    while (!(await stream.next()).done);
    // a stream may end early, for instance when the service is replaced: the generation says how it is
    const state = await insist(() => getGeneration({ path: { id } }));
    if (state.status === "succeeded") return state;
    if ("error" in state) throw state.error;
    await delay(firstDelay);
  }
}

/**
 * Gets the portraits of a finished generation.
 *
 * @param generation as {@linkcode followGeneration} gave it
 * @returns the image files, in order
 */
export async function fetchImages({ id, images }: Generation): Promise<Blob[]> {
  return await Promise.all(images.map(({ index }) =>
    insist(async () => {
      const path = { id, index: String(index) };
      const { data, ...rest } = await getGenerationImage({ path, parseAs: "blob" });
      return { ...rest, data: data as Blob | undefined };
    })
  ));
}
