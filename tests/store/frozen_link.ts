/** A link to a server that goes dead without a word: what is sent vanishes, and no connection is closed. */

/** A listener that hands bytes on to a server until it is told to hold them back. */
export class FrozenLink implements Disposable {
  readonly port: number;
  readonly #listener: Deno.TcpListener;
  readonly #connections = new Set<Deno.TcpConn>();
  readonly #target: number;

  /** @param target port of the server on this machine */
  constructor(target: number) {
    this.#target = target;
    this.#listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    this.port = this.#listener.addr.port;
    void this.#accept();
  }

  /** From now on nothing comes through connections that are open, in either direction; new ones are as good as ever. */
  freeze(): void {
    this.#connections.clear();
  }

  async #accept(): Promise<void> {
    for await (const near of this.#listener) {
      const far = await Deno.connect({ hostname: "127.0.0.1", port: this.#target });
      for (const connection of [near, far]) this.#connections.add(connection);
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
        // held back for ever
        if (!this.#connections.has(from)) continue;
        let sent = 0;
        while (sent < count) sent += await to.write(bytes.subarray(sent, count));
      }
    } catch {
      // one side is gone
    }
    for (const end of [from, to]) {
      try {
        end.close();
      } catch {
        // closed already
      }
    }
  }

  /** Listens no more. */
  [Symbol.dispose](): void {
    this.#listener.close();
  }
}
