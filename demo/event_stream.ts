/** Reads server-sent events (WHATWG HTML, section 9.2.6) from the answer to a POST, which `EventSource` cannot send. */

/** One event. */
export interface StreamEvent {
  /** the field `event`, `message` when there is none */
  readonly event: string;
  /** the fields `data`, joined by newlines */
  readonly data: string;
}

async function* readLines(body: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string> {
  let rest = "";
  for await (const text of body.pipeThrough(new TextDecoderStream())) {
    rest += text;
    // a portrait's base64 comes in many pieces: looking at each piece once keeps the time linear
    if (!text.includes("\n")) continue;
    const lines = rest.split(/\r?\n/);
    rest = lines.pop() ?? "";
    yield* lines;
  }
}

/**
 * Reads the events of a stream as they come. Lines end in LF or CR LF; `id`, `retry` and comments are passed over.
 *
 * @param body of a `text/event-stream` answer
 * @returns the events; one that the stream's end cut off is dropped, as the standard asks
 *
 * @example
 * ```ts
 * for await (const { event, data } of readEvents(response.body)) console.log(event, JSON.parse(data));
 * ```
 */
export async function* readEvents(
  body: ReadableStream<Uint8Array<ArrayBuffer>>,
): AsyncGenerator<StreamEvent> {
  let event = "message";
  let data: string[] = [];
  for await (const line of readLines(body)) {
    if (line === "") {
      if (data.length > 0) yield { event, data: data.join("\n") };
      event = "message";
      data = [];
      continue;
    }
    const [, field, value = ""] = /^([^:]*)(?::[ ]?(.*))?$/s.exec(line) ?? [];
    if (field === "event") event = value;
    if (field === "data") data.push(value);
  }
}
