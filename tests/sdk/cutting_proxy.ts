/**
 * A network that fails: a TCP proxy that cuts one answer and one event stream in the middle, and answers in the service's
 * place, as what stands in front of one does.
 */

/** The head of a request below the proxy's address. */
export interface SeenRequest {
  readonly method: string;
  /** as the service has it */
  readonly path: string;
  /** when it came, by `performance.now()` */
  readonly at: number;
  /** names in lower case */
  readonly headers: ReadonlyMap<string, string>;
}

/** What became of the connections so far. */
export interface CuttingProxy extends AsyncDisposable {
  /** `http://127.0.0.1:<port>/portraits` */
  readonly address: string;
  readonly requests: readonly SeenRequest[];
  /** the first stream of events is asked for */
  readonly watched: Promise<void>;
  /** in the order they were made, at most one of each */
  readonly cuts: readonly Cut[];
}

/** What fails: an answer or a stream is cut in the middle; for the others the proxy answers in the service's place. */
type Cut = "answer" | "answer again" | "stream" | "stream again" | "look" | "look again";

/** An answer of what stands in front of the service, given once. */
interface AnswerInPlace {
  readonly cut: Cut;
  /** method and path */
  readonly request: RegExp;
  /** not before this one */
  readonly after?: Cut;
  readonly answer: string;
}

function answerWith(status: string, contentType: string, body: string, headers = ""): string {
  return `HTTP/1.1 ${status}\r\nContent-Type: ${contentType}\r\n${headers}` +
    `Content-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`;
}

const badGateway = answerWith("502 Bad Gateway", "text/html", "<h1>Bad gateway</h1>");
// a date is as good as a number (RFC 9110, 10.2.3), and this one is past: nobody waits for it
const date = "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\n";
const unavailable = answerWith("503 Service Unavailable", "text/html", "<h1>Come back</h1>", date);
const timeout = answerWith("504 Gateway Timeout", "application/json", '{"message": "Timed out"}');

const start = /^POST \/v1\/generations$/;
const watch = /^GET \/v1\/generations\/[^/]+\/events$/;
const look = /^GET \/v1\/generations\/[^/]+$/;

const answersInPlace: readonly AnswerInPlace[] = [
  { cut: "answer again", request: start, after: "answer", answer: timeout },
  { cut: "stream again", request: watch, after: "stream", answer: badGateway },
  { cut: "look", request: look, answer: unavailable },
  { cut: "look again", request: look, after: "look", answer: badGateway },
];

/** A service may stand below a path; what is asked for elsewhere goes through unseen. */
const prefix = "/portraits";
const requestLine = new RegExp(`^([A-Z]+) ${prefix}(\\S+) HTTP/1\\.1\r\n`);

const encoder = new TextEncoder();
const latin1 = new TextDecoder("latin1");
/** This many progress events come whole, the next one does not. */
const wholeEvents = 4;

/** The head a chunk begins with, if it begins with one. */
function readHead(chunk: string): SeenRequest | undefined {
  const [, method = "", path = ""] = requestLine.exec(chunk) ?? [];
  if (method === "") return undefined;
  const lines = chunk.slice(0, chunk.indexOf("\r\n\r\n")).split("\r\n").slice(1);
  const headers = new Map(lines.map((line): [string, string] => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
  }));
  return { method, path, headers, at: performance.now() };
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
 * and the first stream of events, in the middle of an event. After each it answers the next request of the kind itself,
 * and the first two looks at a generation.
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
          await send(service, encoder.encode(`${head.method} `));
        }
        await send(service, head === undefined ? chunk : chunk.subarray(`${head.method} ${prefix}`.length));
      }
    };
    const downwards = async () => {
      for await (const chunk of chunksOf(service)) {
        const asked = `${current?.method} ${current?.path}`;
        const inPlace = answersInPlace.find(({ cut, request, after }) =>
          request.test(asked) && !cuts.includes(cut) && (after === undefined || cuts.includes(after))
        );
        if (inPlace !== undefined) {
          cuts.push(inPlace.cut);
          return await send(client, encoder.encode(inPlace.answer));
        }
        if (start.test(asked) && !cuts.includes("answer")) {
          cuts.push("answer");
          // some of it must come: what ends without an answer many HTTP stacks send again without a word
          const body = latin1.decode(chunk).indexOf("\r\n\r\n") + "\r\n\r\n{".length;
          return await send(client, chunk.subarray(0, body));
        }
        if (watch.test(asked) && !cuts.includes("stream")) {
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
    address: `http://127.0.0.1:${listener.addr.port}${prefix}`,
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
