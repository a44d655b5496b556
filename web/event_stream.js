/** Reads server-sent events (WHATWG HTML, 9.2.6) over `fetch`, because `EventSource` cannot send a token. */

/**
 * @param {ReadableStream<Uint8Array>} body of a `text/event-stream` answer
 * @param {() => void} onBytes told whenever something came, comments included
 * @returns {AsyncGenerator<{event: string, data: string, id: string | undefined}>} the events; one cut off is dropped
 */
export async function* readEvents(body, onBytes) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let fields = { event: "message", data: [], id: undefined };
  try {
    while (true) {
      const { done, value } = await reader.read();
      if (done) return;
      onBytes();
      rest += value;
      // a picture comes in many pieces: looking at each once keeps the time linear
      if (!value.includes("\n")) continue;
      const lines = rest.split(/\r?\n/);
      rest = lines.pop();
      for (const line of lines) {
        if (line === "") {
          if (fields.data.length > 0) {
            yield { event: fields.event, data: fields.data.join("\n"), id: fields.id };
          }
          fields = { event: "message", data: [], id: undefined };
          continue;
        }
        const [, name, text = ""] = /^([^:]*)(?::[ ]?(.*))?$/s.exec(line);
        if (name === "event") fields.event = text;
        else if (name === "id") fields.id = text;
        else if (name === "data") fields.data.push(text);
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
