/** Whatever happens in whatever order, at once or one after another: no credit appears, vanishes or is taken twice. */

import { deepEqual, equal } from "node:assert/strict";
import fc from "fast-check";
import { grant, InsufficientCreditError } from "../../billing/ledger.ts";
import { accept, TooManyGenerationsError } from "../../jobs/accept.ts";
import { IdempotencyKeyReusedError } from "../../jobs/idempotency.ts";
import type { JobsRoom } from "../../jobs/room.ts";
import { fail, succeed, withdraw } from "../../jobs/settle.ts";
import { testOnEachStore } from "../store/each_store.ts";
import { openTestRoom, outputOf, requestFrom } from "./test_room.ts";

/** One thing that happens; `target` picks one of the generations there are. */
type Event =
  | { readonly type: "accept"; readonly account: string; readonly steps: number; readonly key: number | null }
  | { readonly type: "start" | "succeed" | "fail" | "cancel" | "expire" | "late"; readonly target: number }
  | { readonly type: "grant"; readonly account: string; readonly amount: number };

const accountName = fc.constantFrom("alice", "bob");
const target = fc.nat(11);
const event: fc.Arbitrary<Event> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      type: fc.constant("accept" as const),
      account: accountName,
      steps: fc.integer({ min: 1, max: 100 }),
      key: fc.option(fc.nat(2)),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      type: fc.constantFrom("start" as const, "succeed", "fail", "cancel", "expire", "late"),
      target,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      type: fc.constant("grant" as const),
      account: accountName,
      amount: fc.integer({ min: -300, max: 300 }),
    }),
  },
);

/** Refusals that are right; anything else is a fault. */
const refusals = [InsufficientCreditError, TooManyGenerationsError, IdempotencyKeyReusedError];

async function happen(room: JobsRoom, event: Event, ids: string[]): Promise<void> {
  const { queries } = room.store;
  switch (event.type) {
    case "accept": {
      const request = requestFrom(event.account, { numInferenceSteps: event.steps });
      const idempotency = event.key === null ? {} : {
        idempotency: { key: `key ${event.key}`, fingerprint: Uint8Array.of(event.steps) },
      };
      const { id } = await accept(room, { ...request, ...idempotency });
      if (!ids.includes(id)) ids.push(id);
      return;
    }
    case "grant":
      await room.store.transaction((transaction) =>
        grant(transaction, {
          account: event.account,
          initialCredit: room.settings.initialCredit,
          amount: event.amount,
          kind: "adjustment",
          actor: "tester",
          note: null,
        })
      );
      return;
  }
  const id = ids[event.target % Math.max(1, ids.length)];
  if (id === undefined) return;
  const row = await queries.selectFrom("generations").selectAll().where("id", "=", id)
    .executeTakeFirstOrThrow();
  switch (event.type) {
    case "start":
      // a second start is what follows a crash
      await queries.updateTable("generations").set({ state: "running", attempt: row.attempt + 1 })
        .where("id", "=", id).where("state", "in", ["queued", "running"]).where("attempt", "=", row.attempt)
        .execute();
      return;
    case "succeed":
      await succeed(room, row, outputOf(requestFrom("x").input));
      return;
    case "late":
      await succeed(room, { id, attempt: row.attempt - 1 }, outputOf(requestFrom("x").input));
      return;
    case "fail":
      await fail(room, row, { code: "face_not_found", message: "No face.", details: {} });
      return;
    case "cancel":
      await withdraw(room, id, "canceled");
      return;
    case "expire":
      await withdraw(room, id, "expired");
      return;
  }
}

/** The balances that the journal says there should be. */
async function check(room: JobsRoom): Promise<void> {
  const { queries } = room.store;
  const accounts = await queries.selectFrom("accounts").selectAll().execute();
  const transfers = await queries.selectFrom("transfers").selectAll().execute();
  const generations = await queries.selectFrom("generations").selectAll().execute();
  const sum = (numbers: readonly number[]) => numbers.reduce((total, number) => total + number, 0);
  for (const account of accounts) {
    const own = transfers.filter(({ account_id }) => account_id === account.id);
    const made = generations.filter(({ account_id }) => account_id === account.id);
    const balance = (name: string) =>
      sum(
        own.map(({ debit, credit, amount }) =>
          (credit === name ? amount : 0) - (debit === name ? amount : 0)
        ),
      );
    const priced = (states: readonly string[]) =>
      sum(made.filter(({ state }) => states.includes(state)).map(({ price }) => price));
    const { available, reserved, spent, funded } = account;
    deepEqual([available, reserved, spent, funded], [
      balance("available"),
      balance("reserved"),
      balance("spent"),
      -balance("funded"),
    ]);
    equal(available + reserved + spent, funded);
    equal(reserved, priced(["queued", "running"]));
    equal(spent, priced(["succeeded"]));
  }
  const kinds = (id: string) =>
    transfers.filter(({ generation_id }) => generation_id === id).map(({ kind }) => kind).sort();
  for (const { id, state } of generations) {
    const open = state === "queued" || state === "running";
    deepEqual(
      kinds(id),
      open ? ["reserve"] : [state === "succeeded" ? "capture" : "release", "reserve"].sort(),
    );
  }
  const usage = await queries.selectFrom("usage_events").select("generation_id").execute();
  const succeeded = generations.filter(({ state }) => state === "succeeded").map(({ id }) => id);
  deepEqual(usage.map(({ generation_id }) => generation_id).sort(), succeeded.sort());
  const inputs = await queries.selectFrom("generation_inputs").select("generation_id").execute();
  const open = generations.filter(({ state }) => state === "queued" || state === "running").map(({ id }) =>
    id
  );
  deepEqual(inputs.map(({ generation_id }) => generation_id).sort(), open.sort());
}

testOnEachStore("the ledger balances whatever happens", async ({ store }) => {
  await using room = await openTestRoom(store, { initialCredit: 400, mostAtOnce: 4 });
  const ids: string[] = [];
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(event, { minLength: 1, maxLength: 6 }), { maxLength: 6 }),
      async (rounds) => {
        // what is in one round happens at once
        for (const round of rounds) {
          const results = await Promise.allSettled(round.map((event) => happen(room, event, ids)));
          for (const result of results) {
            if (
              result.status === "rejected" && !refusals.some((refusal) => result.reason instanceof refusal)
            ) {
              throw result.reason;
            }
          }
          await check(room);
        }
        ids.splice(0, Math.max(0, ids.length - 6));
      },
    ),
    { seed: 20_240_313, numRuns: 25, endOnFailure: true },
  );
});
