/** A link to a server on this machine that can be broken in the two ways in which links break. */

/** Hands bytes on to a server, until it is told not to. */
export class ServerLink implements Disposable {
  readonly port: number;
  /** connections that were refused so far */
  refused = 0;
  readonly #listener: Deno.TcpListener;
  readonly #target: number;
  /** those whose bytes are handed on */
  readonly #open = new Set<Deno.TcpConn>();
  #refusing = false;

  /** @param target port of the server */
  constructor(target: number) {
    this.#target = target;
    this.#listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    this.port = this.#listener.addr.port;
    void this.#accept();
  }

  /** The same address, by this link. */
  through(address: string): string {
    const url = new URL(address);
    url.port = String(this.port);
    return String(url);
  }

  /** Nothing comes through connections that are open any more, and nobody is told; new ones are as good as ever. */
  freeze(): void {
    this.#open.clear();
  }

  /** Closes every connection, and new ones as they come. */
  refuse(): void {
    this.#refusing = true;
    for (const connection of this.#open) close(connection);
    this.#open.clear();
  }

  /** Takes connections again. */
  restore(): void {
    this.#refusing = false;
  }

  async #accept(): Promise<void> {
    for await (const near of this.#listener) {
      if (this.#refusing) {
        this.refused++;
        close(near);
        continue;
      }
      const far = await Deno.connect({ hostname: "127.0.0.1", port: this.#target });
      for (const connection of [near, far]) this.#open.add(connection);
      void this.#pass(near, far);
      void this.#pass(far, near);
    }
  }

  async #pass(from: Deno.TcpConn, to: Deno.TcpConn): Promise<void> {
    const bytes = new Uint8Array(65_536);
    try {
      while (true) {
        const count = await from.read(bytes);
        if (count === null) break;
        // frozen: held back for ever
        if (!this.#open.has(from)) continue;
        let sent = 0;
        while (sent < count) sent += await to.write(bytes.subarray(sent, count));
      }
    } catch {
      // one side is gone
    }
    for (const end of [from, to]) {
      this.#open.delete(end);
      close(end);
    }
  }

  /** Listens no more, and closes what is open. */
  [Symbol.dispose](): void {
    this.refuse();
    this.#listener.close();
  }
}

function close(connection: Deno.TcpConn): void {
  try {
    connection.close();
  } catch {
    // closed already
  }
}
