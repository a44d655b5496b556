/** `deno task token`: prints a development JWT on standard output. */

import { parseArgs } from "node:util";
import { ConfigError, loadConfig } from "../../config.ts";
import { allScopes, signDevelopmentToken } from "./development_token.ts";

const usage = `Prints a JWT that this machine's service accepts, signed with its development key.

  --sub NAME           whom the token speaks for (developer)
  --scope WORDS        what it allows (${allScopes})
  --expires-in TIME    90s, 10m, 1h, 7d (1h)`;

try {
  const { values } = parseArgs({
    args: Deno.args,
    options: {
      sub: { type: "string", default: "developer" },
      scope: { type: "string", default: allScopes },
      "expires-in": { type: "string", default: "1h" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(usage);
  } else {
    const config = loadConfig(Deno.env.toObject(), { cores: 1, workingDirectory: Deno.cwd() });
    console.log(
      await signDevelopmentToken(config.jwt, {
        subject: values.sub,
        scope: values.scope,
        expiresIn: values["expires-in"],
      }),
    );
  }
} catch (error) {
  const problems = error instanceof ConfigError
    ? error.problems
    : [error instanceof Error ? error.message : "failed"];
  for (const problem of problems) console.error(problem);
  console.error(`\n${usage}`);
  Deno.exit(2);
}
