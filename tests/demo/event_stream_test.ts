import { deepEqual, equal } from "node:assert/strict";
import { readEvents, type StreamEvent } from "../../demo/event_stream.ts";

/** A body that arrives in pieces of so many bytes. */
function bodyOf(text: string, pieceLength: number): ReadableStream<Uint8Array<ArrayBuffer>> {
  const bytes = new TextEncoder().encode(text);
  const pieces = Array.from(
    { length: Math.ceil(bytes.length / pieceLength) },
    (_, index) => bytes.slice(index * pieceLength, (index + 1) * pieceLength),
  );
  return ReadableStream.from(pieces);
}

async function eventsOf(text: string, pieceLength = text.length): Promise<StreamEvent[]> {
  return await Array.fromAsync(readEvents(bodyOf(text, pieceLength)));
}

Deno.test("events come out the same, however the network cuts them", async () => {
  const text = 'event: progress\ndata: {"step":1}\n\nevent: succeeded\r\ndata: "ä €"\r\n\r\n';
  const expected = [{ event: "progress", data: '{"step":1}' }, { event: "succeeded", data: '"ä €"' }];
  for (let length = 1; length <= text.length; length++) deepEqual(await eventsOf(text, length), expected);
});

Deno.test("the standard's smaller rules", async () => {
  deepEqual(await eventsOf("data: a\ndata:b\ndata:  c\n\n"), [{ event: "message", data: "a\nb\n c" }]);
  deepEqual(await eventsOf(": a comment\nid: 7\nretry: 10\ndata: x\n\n"), [{ event: "message", data: "x" }]);
  deepEqual(await eventsOf("event: empty\n\ndata: y\n\n"), [{ event: "message", data: "y" }]);
  deepEqual(await eventsOf("data\n\n"), [{ event: "message", data: "" }]);
  deepEqual(await eventsOf("data: a:b\n\n"), [{ event: "message", data: "a:b" }]);
});

Deno.test("an event that the end of the stream cut off is dropped", async () => {
  equal((await eventsOf("data: whole\n\ndata: half")).length, 1);
  equal((await eventsOf("data: whole\n\ndata: no blank line\n")).length, 1);
});

Deno.test("an event comes as soon as its blank line does", async () => {
  const { readable, writable } = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>();
  const writer = writable.getWriter();
  const events = readEvents(readable);
  const written = writer.write(new TextEncoder().encode("data: now\n\n"));
  deepEqual((await events.next()).value, { event: "message", data: "now" });
  await written;
  const closed = writer.close();
  equal((await events.next()).done, true);
  await closed;
});
