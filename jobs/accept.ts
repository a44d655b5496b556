/** Takes a generation in: job, charge, message and idempotency key in one transaction. */

import { sql } from "kysely";
import { lockAccount, reservation } from "../billing/ledger.ts";
import { priceOf } from "../billing/price.ts";
import { PipelineError } from "../pipeline/protocol.ts";
import type { GenerationRequest } from "./generation.ts";
import { once } from "./idempotency.ts";
import type { Queries } from "../store/store.ts";
import { generationQueue, type JobSettings, type JobsRoom } from "./room.ts";
import { sealInput } from "./sealed_input.ts";

/** The account has as many open generations as it may. */
export class TooManyGenerationsError extends Error {
  override readonly name = "TooManyGenerationsError";
  /** @param limit how many it may have */
  constructor(readonly limit: number) {
    super(`${limit} generations of this account are queued or running, and that is the limit.`);
  }
}

/** More is asked for than the token allows at a time. */
export class CeilingExceededError extends Error {
  override readonly name = "CeilingExceededError";
  /**
   * @param what is too much
   * @param asked pictures or credits
   * @param limit how many the token allows
   */
  constructor(readonly what: "images" | "price", readonly asked: number, readonly limit: number) {
    super(
      `The request comes to ${asked} ${what === "images" ? "images" : "credits"}, the token allows ${limit}.`,
    );
  }
}

function requireBelowCeiling({ ceiling, input }: GenerationRequest, price: number): void {
  const { images = Infinity, price: most = Infinity } = ceiling;
  if (input.numImages > images) throw new CeilingExceededError("images", input.numImages, images);
  if (price > most) throw new CeilingExceededError("price", price, most);
}

/** The generation that will answer the request. */
export interface Acceptance {
  readonly id: string;
  /** true when an earlier request with the same key made it */
  readonly repeated: boolean;
}

/** How many of the last generations tell how long the next will take. */
const LAST_GENERATIONS = 20;

/** What a caller is told to wait when the queue is full, in seconds. */
const waits = { shortest: 1, longest: 60 };

/** When the next place in the queue is likely to be free: as long as the last ones ran, shared by those that run now. */
async function secondsToNext(transaction: Queries, running: number): Promise<number> {
  const last = transaction.selectFrom("generations").select(
    sql<number>`extract(epoch from finished_at - started_at)`.as("seconds"),
  ).where("state", "=", "succeeded").orderBy("finished_at", "desc").limit(LAST_GENERATIONS).as("last");
  const { mean } = await transaction.selectFrom(last).select(
    sql<number | null>`avg(seconds)::float`.as("mean"),
  )
    .executeTakeFirstOrThrow();
  const seconds = Math.ceil((mean ?? 0) / Math.max(running, 1));
  return Math.min(Math.max(seconds, waits.shortest), waits.longest);
}

/** The share of the queue that accounts with open generations may fill; the rest of it is kept for who has none. */
const SHARE_OF_BUSY = 3 / 4;

/**
 * Finds a generation's turn: the lower, the sooner it is taken from the queue.
 *
 * The queue is everybody's: one more than it holds may wait for a moment until an instance takes it. So that a few busy
 * accounts cannot shut out all others, its last places go to who has nothing queued or running. And so that nobody waits
 * for all that a busy account has queued, accounts take turns: a generation comes after what its account asked for before, by the
 * steps of that, and not before what has begun already, or begins next (start-time fair queueing, Goyal, Vin and Cheng 1996).
 * What is over counts for as long as something is open that is older: else who asks anew whenever a portrait is there would
 * always go before who has asked for several.
 */
async function findTurn(
  transaction: Queries,
  account: string,
  { mostAtOnce, mostQueued }: JobSettings,
): Promise<number> {
  const { open, waiting, running, turn } = await transaction.selectFrom("generations").select([
    sql<number>`(count(*) filter (where account_id = ${account}))::int`.as("open"),
    sql<number>`(count(*) filter (where state = 'queued'))::int`.as("waiting"),
    sql<number>`(count(*) filter (where state = 'running'))::int`.as("running"),
    sql<number>`least(2147483647, greatest(
      0,
      coalesce(max(turn) filter (where state = 'running'), min(turn)),
      (
        select max(own.turn::bigint + own.images * own.steps) from generations own
        where own.account_id = ${account} and own.created_at >= min(generations.created_at)
        and (own.state in ('queued', 'running') or own.started_at is not null)
      )
    ))::int`.as("turn"),
  ]).where("state", "in", ["queued", "running"]).executeTakeFirstOrThrow();
  if (open >= mostAtOnce) throw new TooManyGenerationsError(mostAtOnce);
  const limit = open === 0 ? mostQueued : Math.ceil(SHARE_OF_BUSY * mostQueued);
  if (waiting > limit) {
    throw new PipelineError("queue_full", `${waiting} generations are waiting`, {
      limit,
      retry_after_seconds: await secondsToNext(transaction, running),
    });
  }
  return turn;
}

/**
 * Accepts a generation, or finds the one an earlier request with the same key made.
 *
 * @param room the jobs room
 * @param request what is asked for
 * @param uuid for its name, should it be a new one
 * @param onWritten told when nothing but the commit is left: from then on it may exist, whatever is thrown
 * @returns its id
 * @throws {PipelineError} `queue_full`
 * @throws {CeilingExceededError} when the token does not allow that much
 * @throws {InsufficientCreditError} when the account cannot pay
 * @throws {TooManyGenerationsError} when too many are open
 * @throws {IdempotencyKeyReusedError} when the key belongs to another request
 */
export async function accept(
  room: JobsRoom,
  request: GenerationRequest,
  uuid: string = crypto.randomUUID(),
  onWritten: () => void = () => {},
): Promise<Acceptance> {
  const id = `gen_${uuid}`;
  const work = {
    images: request.input.numImages,
    steps: request.input.numInferenceSteps,
    pixels: request.pixels,
  };
  const price = priceOf(room.settings.prices, work);
  requireBelowCeiling(request, price);
  const sealed = await sealInput(room.sealer, id, request);
  return await room.store.transaction(async (transaction) => {
    const { answer, repeated } = await once(transaction, request.account, request.idempotency, async () => {
      const { settings, queue } = room;
      const account = await lockAccount(transaction, request.account, settings.initialCredit);
      const turn = await findTurn(transaction, account.id, settings);
      const held = reservation(account, id, price);
      await transaction.with("job", (database) =>
        database.insertInto("generations").values({
          id,
          account_id: account.id,
          key_id: request.key,
          end_user: request.endUser,
          request_id: request.requestId,
          model: request.model,
          ...work,
          price,
          message_id: uuid,
          turn,
          deadline: sql<Date>`now() + make_interval(secs => ${settings.timeoutSeconds})`,
        })).with("charge", (database) => database.insertInto("transfers").values(held))
        .insertInto("generation_inputs").values({ generation_id: id, sealed }).execute();
      await queue.send(transaction, generationQueue, { id }, { id: uuid, priority: -turn });
      return id;
    });
    onWritten();
    return { id: answer, repeated };
  });
}
