/** The real service with the real model, for clients that are programs of their own. */

import { startService } from "../../demo/service_process.ts";
import { signDevelopmentToken } from "../../routes/tokens/development_token.ts";

/** A running service, and tokens for it. */
export interface LiveService extends AsyncDisposable {
  /** `http://127.0.0.1:<port>` */
  readonly address: string;
  /** signs a token with every scope for an account of its own */
  tokenFor(account: string): Promise<string>;
}

/**
 * Starts the service as the demo does.
 *
 * @returns the service; `await using` stops it
 */
export async function startLiveService(): Promise<LiveService> {
  // one client at a time: measuring how large a batch pays would only cost time
  const service = await startService(AbortSignal.timeout(180_000), { THREADS: "2", MAX_BATCH: "1" });
  return {
    address: service.address,
    tokenFor: (subject) => signDevelopmentToken(service.jwt, { subject, expiresIn: "10m" }),
    [Symbol.asyncDispose]: () => service[Symbol.asyncDispose](),
  };
}
