/** A network that fails: a TCP proxy that cuts one answer and one event stream in the middle, and answers once itself. */

/** The head of a request that went through. */
export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  /** names in lower case */
  readonly headers: ReadonlyMap<string, string>;
}

/** What became of the connections so far. */
export interface CuttingProxy extends AsyncDisposable {
  /** `http://127.0.0.1:<port>` */
  readonly address: string;
  readonly requests: readonly SeenRequest[];
  /** the first stream of events is asked for */
  readonly watched: Promise<void>;
  /** in the order they were made, at most one of each */
  readonly cuts: readonly Cut[];
}

/** What fails: the answer to a request, a stream of events, the look at a generation, which the proxy answers in HTML. */
type Cut = "answer" | "stream" | "look";

/** What stands in front of a service says while it is replaced. */
const badGateway = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html\r\nRetry-After: 1\r\n" +
  "Content-Length: 18\r\nConnection: close\r\n\r\n<h1>Come back</h1>";

const latin1 = new TextDecoder("latin1");
/** This many progress events come whole, the next one does not. */
const wholeEvents = 4;

/** The head a chunk begins with, if it begins with one. */
function readHead(chunk: string): SeenRequest | undefined {
  const [, method = "", path = ""] = /^([A-Z]+) (\S+) HTTP\/1\.1\r\n/.exec(chunk) ?? [];
  if (method === "") return undefined;
  const lines = chunk.slice(0, chunk.indexOf("\r\n\r\n")).split("\r\n").slice(1);
  const headers = new Map(lines.map((line): [string, string] => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
  }));
  return { method, path, headers };
}

function close(connection: Deno.Conn): void {
  try {
    connection.close();
  } catch {
    // the other direction has closed it
  }
}

/** Reads until the connection ends, however it does. */
async function* chunksOf(connection: Deno.Conn): AsyncGenerator<Uint8Array> {
  const buffer = new Uint8Array(65_536);
  while (true) {
    const length = await connection.read(buffer).catch(() => null);
    if (length === null) return;
    yield buffer.subarray(0, length);
  }
}

async function send(connection: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let sent = 0; sent < bytes.length;) sent += await connection.write(bytes.subarray(sent));
}

/** Where the text of a stream goes on after so many progress events, a few letters into the next. */
function cutAt(text: string): number | undefined {
  let at = -1;
  for (let event = 0; event <= wholeEvents; event++) {
    at = text.indexOf("event: progress", at + 1);
    if (at === -1) return undefined;
  }
  return at + "event: pro".length;
}

/**
 * Starts the proxy. It cuts the answer to the first `POST /v1/generations`, which the service has taken on by then,
 * and the first stream of events, in the middle of an event; and it answers the first look at a generation itself, as a
 * proxy does whose service is away.
 *
 * @param target `http://127.0.0.1:<port>` of the service
 * @returns the proxy; `await using` stops it
 */
export function startCuttingProxy(target: string): CuttingProxy {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const open = new Set<Deno.Conn>();
  const requests: SeenRequest[] = [];
  const cuts: Cut[] = [];
  const watched = Promise.withResolvers<void>();

  async function serve(client: Deno.Conn): Promise<void> {
    const service = await Deno.connect({ hostname: "127.0.0.1", port: Number(new URL(target).port) });
    let current: SeenRequest | undefined;
    let stream = "";
    const upwards = async () => {
      for await (const chunk of chunksOf(client)) {
        const head = readHead(latin1.decode(chunk));
        if (head !== undefined) {
          requests.push(head);
          if (head.path.endsWith("/events")) watched.resolve();
          current = head;
          stream = "";
          if (/^\/v1\/generations\/[^/]+$/.test(head.path) && !cuts.includes("look")) {
            cuts.push("look");
            return await send(client, new TextEncoder().encode(badGateway));
          }
        }
        await send(service, chunk);
      }
    };
    const downwards = async () => {
      for await (const chunk of chunksOf(service)) {
        if (current?.method === "POST" && current.path === "/v1/generations" && !cuts.includes("answer")) {
          cuts.push("answer");
          // some of it must come: what ends without an answer many HTTP stacks send again without a word
          const body = latin1.decode(chunk).indexOf("\r\n\r\n") + "\r\n\r\n{".length;
          return await send(client, chunk.subarray(0, body));
        }
        if (current?.path.endsWith("/events") && !cuts.includes("stream")) {
          const before = stream.length;
          stream += latin1.decode(chunk);
          const end = cutAt(stream);
          if (end !== undefined) {
            cuts.push("stream");
            return await send(client, chunk.subarray(0, end - before));
          }
        }
        await send(client, chunk);
      }
    };
    for (const connection of [client, service]) open.add(connection);
    await Promise.race([upwards(), downwards()]).catch(() => {
      // whoever hung up in the middle of a write has what it wanted
    });
    for (const connection of [client, service]) {
      close(connection);
      open.delete(connection);
    }
  }

  const serving = (async () => {
    for await (const client of listener) void serve(client);
  })();
  return {
    address: `http://127.0.0.1:${listener.addr.port}`,
    requests,
    watched: watched.promise,
    cuts,
    async [Symbol.asyncDispose]() {
      listener.close();
      for (const connection of open) close(connection);
      await serving;
    },
  };
}
