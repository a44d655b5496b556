/** Takes a generation in: job, charge, message and idempotency key in one transaction. */

import { sql } from "kysely";
import { lockAccount, reserve } from "../billing/ledger.ts";
import { priceOf } from "../billing/price.ts";
import type { GenerateInput } from "../pipeline/protocol.ts";
import { type IdempotentRequest, once } from "./idempotency.ts";
import { generationQueue, type JobsRoom } from "./room.ts";
import { sealInput } from "./sealed_input.ts";

/** The account has as many open generations as it may. */
export class TooManyGenerationsError extends Error {
  override readonly name = "TooManyGenerationsError";
  /** @param limit how many it may have */
  constructor(readonly limit: number) {
    super(`${limit} generations of this account are queued or running, and that is the limit.`);
  }
}

/** What is asked for, by whom. */
export interface GenerationRequest {
  readonly account: string;
  /** the client that asks, for usage by key */
  readonly key: string;
  readonly model: string;
  readonly input: GenerateInput;
  /** pixels of one picture */
  readonly pixels: number;
  readonly idempotency?: IdempotentRequest;
}

/** The generation that will answer the request. */
export interface Acceptance {
  readonly id: string;
  /** true when an earlier request with the same key made it */
  readonly repeated: boolean;
}

/**
 * Accepts a generation, or finds the one an earlier request with the same key made.
 *
 * @param room the jobs room
 * @param request what is asked for
 * @returns its id
 * @throws {InsufficientCreditError} when the account cannot pay
 * @throws {TooManyGenerationsError} when too many are open
 * @throws {IdempotencyKeyReusedError} when the key belongs to another request
 */
export async function accept(room: JobsRoom, request: GenerationRequest): Promise<Acceptance> {
  const uuid = crypto.randomUUID();
  const id = `gen_${uuid}`;
  const sealed = await sealInput(room.sealer, id, request.input);
  return await room.store.transaction(async (transaction) => {
    const { answer, repeated } = await once(transaction, request.account, request.idempotency, async () => {
      const { settings, queue } = room;
      const account = await lockAccount(transaction, request.account, settings.initialCredit);
      const { open } = await transaction.selectFrom("generations")
        .select(sql<number>`count(*)::int`.as("open"))
        .where("account_id", "=", account.id).where("state", "in", ["queued", "running"]).executeTakeFirstOrThrow();
      if (open >= settings.mostAtOnce) throw new TooManyGenerationsError(settings.mostAtOnce);
      const work = {
        images: request.input.numImages,
        steps: request.input.numInferenceSteps,
        pixels: request.pixels,
      };
      const price = priceOf(settings.prices, work);
      await transaction.insertInto("generations").values({
        id,
        account_id: account.id,
        key_id: request.key,
        model: request.model,
        ...work,
        price,
        message_id: uuid,
        start_by: sql<Date>`now() + make_interval(secs => ${settings.queueSeconds})`,
      }).execute();
      await transaction.insertInto("generation_inputs").values({ generation_id: id, sealed }).execute();
      await reserve(transaction, account, { account: account.id, generation: id, amount: price });
      await queue.send(transaction, generationQueue, { id }, uuid);
      return id;
    });
    return { id: answer, repeated };
  });
}
