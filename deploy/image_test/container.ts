/** An image's process as a platform runs it: read-only root, its own user, its entrypoint as process 1. */

import { join } from "node:path";
import { TextLineStream } from "../../bench/shared/text_line_stream.ts";
import type { ImageConfig } from "./buildah.ts";

/** What a container gets from outside. */
export interface ContainerOptions {
  /** the image's files */
  readonly root: string;
  readonly config: ImageConfig;
  /** over the image's own environment */
  readonly environment: Readonly<Record<string, string>>;
  /** host folders by the path they are mounted at; `/state` can be written */
  readonly mounts: Readonly<Record<string, string>>;
}

/**
 * The process's view: the image, unchangeable, with /proc, the usual devices, /tmp in memory and what is mounted. The shell is
 * process 1 of its namespace and becomes the program.
 */
const enter = `
set -e
root="$1"; user="$2"; folder="$3"; shift 3
mount --bind "$root" "$root"
mount -o remount,ro,bind "$root"
while [ "$1" != -- ]; do
  mount --bind "$1" "$root$2"
  [ "$2" = /state ] || mount -o remount,ro,bind "$root$2"
  shift 2
done
shift
mount -t proc proc "$root/proc"
mount -t tmpfs -o nosuid,nodev tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero random urandom; do touch "$root/dev/$device"; mount --bind "/dev/$device" "$root/dev/$device"; done
exec chroot --userspec="$user" "$root" /usr/bin/env --chdir="$folder" "$@"
`;

/** Command line of a program in the image's view. */
function commandOf({ root, config, environment, mounts }: ContainerOptions, program: readonly string[]) {
  const variables = [
    ...config.Env,
    ...Object.entries(environment).map(([name, value]) => `${name}=${value}`),
  ];
  return new Deno.Command("unshare", {
    args: ["--mount", "--pid", "--fork", "--", "sh", "-c", enter, "sh"]
      .concat([root, config.User, config.WorkingDir])
      .concat(Object.entries(mounts).flatMap(([path, folder]) => [folder, path]), ["--"])
      .concat(variables, program),
    clearEnv: true,
    env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  });
}

/**
 * Runs another program of the image to its end, as a platform does for a health check.
 *
 * @returns its exit code and what it wrote
 */
export async function runInside(
  options: ContainerOptions,
  program: readonly string[],
): Promise<{ code: number; output: string }> {
  const { code, stdout, stderr } = await commandOf(options, program).output();
  const text = new TextDecoder();
  return { code, output: text.decode(stdout) + text.decode(stderr) };
}

/** The image's entrypoint, running; `await using` kills what still runs. */
export class Container implements AsyncDisposable {
  /** what it wrote to standard error, line by line */
  readonly lines: string[] = [];
  readonly #child: Deno.ChildProcess;
  readonly #read: Promise<void>;
  /** whether the process has ended */
  ended = false;

  /** Starts it. */
  constructor(options: ContainerOptions) {
    this.#child = commandOf(options, options.config.Entrypoint).spawn();
    this.#child.stdout.cancel();
    this.#read = this.#follow();
    this.#child.status.then(() => this.ended = true);
  }

  async #follow(): Promise<void> {
    const text = this.#child.stderr.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream());
    for await (const line of text) this.lines.push(line);
  }

  /** Number of the entrypoint's process on the host. */
  async #pid(): Promise<number> {
    const { pid } = this.#child;
    return Number(await Deno.readTextFile(`/proc/${pid}/task/${pid}/children`));
  }

  /** The entrypoint's user, its number inside the container and its program. */
  async identity(): Promise<{ uid: number; pid: number; program: string }> {
    const host = await this.#pid();
    const status = await Deno.readTextFile(`/proc/${host}/status`);
    const field = (name: string) =>
      status.match(new RegExp(`^${name}:\\s+(.*)$`, "m"))?.[1]?.split(/\s+/) ?? [];
    const program = (await Deno.readTextFile(join("/proc", String(host), "cmdline"))).split("\0")[0]!;
    return { uid: Number(field("Uid")[0]), pid: Number(field("NSpid").at(-1)), program };
  }

  /** Processor time of the entrypoint so far, in seconds: what a busy machine does not blur. */
  async processorSeconds(): Promise<number> {
    const fields = (await Deno.readTextFile(`/proc/${await this.#pid()}/stat`)).split(") ")[1]!.split(" ");
    // user and system time in ticks, of which Linux tells a hundred a second
    return (Number(fields[11]) + Number(fields[12])) / 100;
  }

  /** Sends the entrypoint a signal. */
  async kill(signal: Deno.Signal): Promise<void> {
    Deno.kill(await this.#pid(), signal);
  }

  /** Waits for its end. @returns the exit code */
  async exitCode(): Promise<number> {
    const { code } = await this.#child.status;
    await this.#read;
    return code;
  }

  /** Kills it if it still runs. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      // not its parent: the system forgets whose death to follow when the entrypoint takes another user
      if (!this.ended) await this.kill("SIGKILL");
    } catch {
      // it has ended, which is what was wanted
    }
    await this.exitCode();
  }
}
