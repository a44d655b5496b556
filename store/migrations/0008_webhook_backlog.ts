/** An endpoint's waiting webhook messages are counted, and each knows what of the queue carries it. */

/** Statements of this migration, in order. */
export const statements: readonly string[] = [
  "alter table webhook_messages add column queue_id text",
  "create index webhook_messages_pending on webhook_messages (endpoint_id, deliver_until) where state = 'pending'",
];
