/** The generated clients and the examples on them, against the real service: `deno task sdk` comes first. */

import { startLiveService } from "./live_service.ts";
import { expectPortraitOverCutConnections, run } from "./cut_connections.ts";

Deno.test("clients", async (t) => {
  await using service = await startLiveService();
  await t.step("TypeScript compiles strictly", async () => {
    await run({
      command: Deno.execPath(),
      args: ["run", "--allow-all", "npm:typescript@5.9.3/tsc", "--project", "sdk/examples/typescript"],
    });
  });
  await t.step("TypeScript over cut connections", async () => {
    await expectPortraitOverCutConnections(service, "typescript", {
      command: Deno.execPath(),
      args: ["run", "--allow-all", "--no-check", "sdk/examples/typescript/main.ts"],
    });
  });
  await t.step("Python", async () => {
    await run({ command: "sdk/.venv/bin/mypy", args: ["--config-file", "sdk/mypy.ini", "sdk/generated/python", "sdk/examples/python"] });
  });
  await t.step("Python over cut connections", async () => {
    await expectPortraitOverCutConnections(service, "python", {
      command: "sdk/.venv/bin/python",
      args: ["sdk/examples/python/main.py"],
      env: { PYTHONPATH: "sdk/generated/python" },
    });
  });
});
