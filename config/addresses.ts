/** Addresses as environment variables hold them. */

import { z } from "zod";

const protocols = ["http:", "https:"];

/**
 * An http or https address. A user name or a password in it would end in logs; what `localhost:8080` means, nobody can tell.
 *
 * @param remedy where a password belongs instead
 * @returns a schema of the text
 */
export function httpAddress(remedy: string): z.ZodType<string> {
  return z.string()
    .refine((text) => URL.canParse(text) && protocols.includes(new URL(text).protocol), {
      error: "must be an http or https address, for example https://collector.example/events",
      abort: true,
    })
    .refine((text) => {
      const { username, password } = new URL(text);
      return username === "" && password === "";
    }, `must not hold a user name or password: ${remedy}`);
}
