/**
 * Codes and stages may be added: an example tells its caller of one that is newer than its client. And a problem of the
 * service's own ends it at the first try, whatever its status. `deno task sdk` comes first.
 */

import { equal } from "node:assert/strict";
import { run } from "./cut_connections.ts";
import { ignored, named } from "./toolchains.ts";

const problem = {
  type: "urn:idadapter:problem:moon_too_full",
  code: "moon_too_full",
  title: "The moon is too full",
  status: 504,
  detail: "It is full.",
  remedy: "Wait a week.",
  request_id: "r1",
  errors: [{ pointer: "/seed", code: "seed_too_bright", detail: "must be darker" }],
};

const generation = { id: "gen_1", model: "m", created_at: "2026-01-29T10:00:00Z" };

/** A service of the future: the answer to each request. */
function answer({ method, url }: Request): Response {
  switch (`${method} ${new URL(url).pathname}`) {
    case "POST /v1/faces": {
      const problems = [{ code: "hat_too_large", message: "A smaller hat would do.", blocking: false }];
      return Response.json({ width: 640, height: 480, faces: [], usable: false, problems });
    }
    case "GET /v1/generations/gen_1/events": {
      const progress = JSON.stringify({ stage: "polish", step: 20, steps: 20 });
      const headers = { "Content-Type": "text/event-stream" };
      return new Response(`event: progress\ndata: ${progress}\nid: 1\n\n`, { headers });
    }
    case "GET /v1/generations/gen_1":
      return Response.json({
        ...generation,
        status: "failed",
        error: problem,
        expires_at: generation.created_at,
      });
    default: {
      const headers = { "Content-Type": "application/problem+json" };
      return Response.json(problem, { status: problem.status, headers });
    }
  }
}

const typescript = `
  import { checkPhoto, connect, followGeneration, startGeneration } from "./sdk/examples/typescript/portraits.ts";
  connect(process.env.IDADAPTER_URL, () => "token");
  const told = ({ code, errors }) => console.log(code, errors[0].code);
  console.log((await checkPhoto(new Blob())).problems[0].code);
  await startGeneration(new Blob(), { prompt: "a smile", class_noun: "woman" }, "key").catch(told);
  await followGeneration("gen_1", ({ stage }) => console.log(stage)).catch(told);
`;

const python = `
import os
from idadapter_client import AuthenticatedClient
from idadapter_client.models import GenerationRequest
from portraits import Refused, check_photo, follow_generation, start_generation

client = AuthenticatedClient(base_url=os.environ["IDADAPTER_URL"], token="token")
request = GenerationRequest(reference_images=[""], prompt="a smile", class_noun="woman")
print(check_photo(client, b"").problems[0].code)
for call in (
    lambda: start_generation(client, request, "key"),
    lambda: follow_generation(client, "gen_1", lambda progress: print(progress.stage)),
):
    try:
        call()
    except Refused as refused:
        print(refused.problem.code, refused.problem.errors[0].code)
`;

const programs = [
  {
    language: "TypeScript",
    ignore: ignored.typescript,
    command: Deno.execPath(),
    args: ["eval", typescript],
    env: {},
  },
  {
    language: "Python",
    ignore: ignored.python,
    command: "sdk/.venv/bin/python",
    args: ["-c", python],
    env: { PYTHONPATH: "sdk/generated/python:sdk/examples/python" },
  },
];

for (const { language, ignore, command, args, env } of programs) {
  Deno.test({
    name: named(`codes newer than the client reach ${language}'s caller, at the first try`, ignore),
    ignore,
    fn: async () => {
      let requests = 0;
      await using service = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
        requests++;
        return answer(request);
      });
      const address = `http://127.0.0.1:${service.addr.port}`;
      const told = await run({ command, args, env: { ...env, IDADAPTER_URL: address } });
      const refused = "moon_too_full seed_too_bright";
      equal(told, ["hat_too_large", refused, "polish", refused, ""].join("\n"));
      equal(requests, 4);
    },
  });
}
