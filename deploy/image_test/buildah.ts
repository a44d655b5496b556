/** Images without Docker: Debian's debootstrap for the base, buildah for the Dockerfile, no daemon and no registry of images. */

import { join } from "node:path";
import { fileURLToPath } from "node:url";

const repository = fileURLToPath(new URL("../..", import.meta.url));
const baseName = "docker.io/library/debian:bookworm-slim";

/** What Debian's own slim image leaves out as well. */
const slimmed = [
  "var/cache/apt/archives",
  "var/lib/apt/lists",
  "usr/share/doc",
  "usr/share/man",
  "usr/share/info",
]
  .concat(["usr/share/locale", "usr/share/lintian"]);

/** The host's certificates, for build machines whose way out brings its own. */
const certificates = "/etc/ssl/certs/ca-certificates.crt";

/** What an image says of itself; Docker's names. */
export interface ImageConfig {
  readonly Entrypoint: readonly string[];
  readonly Env: readonly string[];
  /** `uid:gid` */
  readonly User: string;
  readonly WorkingDir: string;
  readonly Healthcheck?: { readonly Test: readonly string[] };
}

/** An image that was built. */
export interface BuiltImage {
  readonly name: string;
  readonly config: ImageConfig;
  /** of all layers, uncompressed */
  readonly bytes: number;
}

async function run(program: string, args: readonly string[], quiet = true): Promise<string> {
  const command = new Deno.Command("nice", {
    args: ["-n", "5", program, ...args],
    cwd: repository,
    env: { BUILDAH_ISOLATION: "chroot", STORAGE_DRIVER: "vfs", DEBIAN_FRONTEND: "noninteractive" },
    stdin: "null",
    stdout: quiet ? "piped" : "inherit",
    stderr: quiet ? "piped" : "inherit",
  });
  if (!quiet) {
    const { success, code } = await command.spawn().status;
    if (!success) throw new Error(`${program} ended with exit code ${code}`);
    return "";
  }
  const { success, stdout, stderr } = await command.output();
  const text = new TextDecoder();
  if (!success) throw new Error(`${program} ${args[0]} failed: ${text.decode(stderr)}`);
  return text.decode(stdout).trim();
}

/** buildah with a storage of its own, kept between runs. */
export class Buildah {
  readonly #cache: string;

  /** @param cache folder for the base's files and the images */
  constructor(cache: string) {
    this.#cache = cache;
  }

  #buildah(...args: string[]): Promise<string> {
    return run("buildah", [...this.#storage, ...args]);
  }

  get #storage(): string[] {
    const folder = join(this.#cache, "storage");
    return ["--root", join(folder, "root"), "--runroot", join(folder, "run")];
  }

  /** Makes the base image unless it is there from before. */
  async ensureBase(): Promise<void> {
    const images = await this.#buildah("images", "--quiet", "--filter", `reference=${baseName}`);
    if (images !== "") return;
    console.log("The base image is made (once, some minutes) …");
    await Deno.mkdir(this.#cache, { recursive: true });
    const files = await Deno.makeTempDir({ dir: this.#cache, prefix: "base-" });
    try {
      await run("debootstrap", ["--variant=minbase", "bookworm", files]);
      for (const path of slimmed) {
        await Deno.remove(join(files, path), { recursive: true });
        await Deno.mkdir(join(files, path), { recursive: true });
      }
      await Deno.chmod(files, 0o755);
      const container = await this.#buildah("from", "scratch");
      await this.#buildah("add", "--quiet", container, files, "/");
      await this.#buildah("commit", "--quiet", "--rm", container, baseName);
    } finally {
      await Deno.remove(files, { recursive: true });
    }
  }

  /**
   * Builds the Dockerfile.
   *
   * @param target its last stage, `cpu` or `cuda`
   * @param options further options of `buildah bud`
   */
  async build(target: string, ...options: string[]): Promise<BuiltImage> {
    const name = `localhost/idadapter:${target}`;
    const hasCertificates = await Deno.stat(certificates).then(() => true, () => false);
    const trust = hasCertificates
      ? ["--volume", `${certificates}:/usr/local/share/ca-certificates/build_host.crt:ro`]
      : [];
    // this buildah knows no argument in the last FROM, which is all that --target stands for
    const kind = ["--target", target, "--format", "docker", "--layers", "--pull-never"];
    await run("buildah", [
      ...this.#storage,
      "bud",
      "--quiet",
      ...kind,
      ...trust,
      ...options,
      "--tag",
      name,
      ".",
    ]);
    const { Docker } = JSON.parse(await this.#buildah("inspect", "--type", "image", name));
    const [, size = ""] = (await this.#buildah("images", "--format", "{{.Name}}:{{.Tag}} {{.Size}}"))
      .split("\n").find((line) => line.startsWith(`${name} `))?.match(/ ([\d.]+ [A-Za-z]+)$/) ?? [];
    return { name, config: Docker.config, bytes: bytesOf(size) };
  }

  /** Lays an image out as a folder; `await using` removes it. */
  async unpack(image: BuiltImage): Promise<AsyncDisposable & { readonly root: string }> {
    const container = await this.#buildah("from", "--pull-never", image.name);
    const root = await this.#buildah("mount", container);
    return { root, [Symbol.asyncDispose]: async () => void await this.#buildah("rm", container) };
  }
}

/** `399 MB` in bytes; buildah tells sizes to people only. */
function bytesOf(text: string): number {
  const [, figure, unit = ""] = text.match(/^([\d.]+) (KB|MB|GB)$/) ?? [];
  return Number(figure) * ({ KB: 1e3, MB: 1e6, GB: 1e9 }[unit] ?? NaN);
}
