/** A real PostgreSQL server of the tests' own: on loopback, on a free port, with its data in a temporary folder. */

const folders = ["/usr/lib/postgresql", "/opt/homebrew/opt"];

/** Where PostgreSQL's programs are, newest version first; undefined when it is not installed. */
function findPrograms(): string | undefined {
  for (const folder of folders) {
    try {
      const versions = [...Deno.readDirSync(folder)].map(({ name }) => name)
        .filter((name) => /^(?:postgresql@)?\d+$/.test(name))
        .sort((a, b) => Number(b.replace(/\D/g, "")) - Number(a.replace(/\D/g, "")));
      if (versions[0] !== undefined) return `${folder}/${versions[0]}/bin`;
    } catch {
      // not on this machine
    }
  }
  return undefined;
}

const programs = findPrograms();

/** Whether the tests can start a server here; `REQUIRE_POSTGRES` (set by `.ci/run`) has them fail where it is missing. */
export const postgresInstalled: boolean = programs !== undefined || Deno.env.has("REQUIRE_POSTGRES");

/** A server of the tests' own. */
export interface PostgresServer extends AsyncDisposable {
  /** Address of a new, empty database. */
  createDatabase(): Promise<string>;
  /** Address of a database on it. */
  address(database: string): string;
  /** Stops it, as for maintenance: connections are cut. */
  stop(): Promise<void>;
  /** Starts it again, on the same port. */
  start(): Promise<void>;
}

/** PostgreSQL refuses to run as root; Debian's package brings a user for it. */
function command(program: string, args: readonly string[]): Deno.Command {
  const path = `${programs}/${program}`;
  const options = { stdin: "null", stdout: "piped", stderr: "piped", cwd: "/" } as const;
  return Deno.uid() === 0
    ? new Deno.Command("runuser", { args: ["-u", "postgres", "--", path, ...args], ...options })
    : new Deno.Command(path, { args: [...args], ...options });
}

async function run(program: string, args: readonly string[]): Promise<void> {
  const { success, stderr, stdout } = await command(program, args).output();
  if (!success) {
    const text = new TextDecoder();
    throw new Error(`${program} failed: ${text.decode(stderr)} ${text.decode(stdout)}`);
  }
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

/**
 * Starts a server.
 *
 * @returns the running server; `await using` stops it and removes its data
 */
export async function startPostgres(): Promise<PostgresServer> {
  if (programs === undefined) throw new Error("PostgreSQL is not installed: apt-get install postgresql");
  const folder = await Deno.makeTempDir({ prefix: "idadapter-postgres-" });
  // the server's own user owns its data
  await Deno.chmod(folder, 0o777);
  const data = `${folder}/data`;
  await run("initdb", [
    "-D",
    data,
    "-U",
    "postgres",
    "--auth=trust",
    "--encoding=UTF8",
    "--locale=C",
    "--no-sync",
  ]);
  const port = freePort();
  const options =
    `-p ${port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=200`;
  const address = (database: string) => `postgres://postgres@127.0.0.1:${port}/${database}`;
  const control = (verb: string, ...more: string[]) => run("pg_ctl", [verb, "-D", data, "-w", "-s", ...more]);
  const start = () => control("start", "-l", `${folder}/log`, "-o", options);
  const stop = () => control("stop", "-m", "fast");
  await start();
  let count = 0;
  return {
    address,
    start,
    stop,
    async createDatabase() {
      const name = `test_${++count}`;
      await run("createdb", ["-h", "127.0.0.1", "-p", String(port), "-U", "postgres", name]);
      return address(name);
    },
    async [Symbol.asyncDispose]() {
      await stop().catch(() => {});
      await Deno.remove(folder, { recursive: true });
    },
  };
}
