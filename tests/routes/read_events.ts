/** Server-sent events as a test looks at them. */

/** One event, its data as it was sent. */
export interface ServerSentEvent {
  readonly event: string;
  readonly id: string;
  readonly data: string;
}

/**
 * Reads a whole stream.
 *
 * @param response of `text/event-stream`
 * @returns its events, in order
 */
export async function readEvents(response: Response): Promise<ServerSentEvent[]> {
  return (await response.text()).split("\n\n").filter((block) => block !== "").map((block) => {
    const fields = new Map(block.split("\n").map((line) => line.split(/: (.*)/s, 2) as [string, string]));
    return { event: fields.get("event") ?? "", id: fields.get("id") ?? "", data: fields.get("data") ?? "" };
  });
}
