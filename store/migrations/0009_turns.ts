/** The queue goes round the accounts: whose turn it is stands with each generation. */

/** Statements of this migration, in order. */
export const statements: readonly string[] = [
  // on what is open already nothing was counted: it is taken first come first served
  "alter table generations add column turn integer not null default 0",
];
