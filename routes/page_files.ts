/** The page's files, read once: named by what they all hold together, compressed once. */

import { createHash } from "node:crypto";
import { gzipSync } from "node:zlib";

/** One file as it is sent. */
export interface PageFile {
  readonly type: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** gzip (RFC 1952); undefined where it would not be smaller */
  readonly gzip: Uint8Array<ArrayBuffer> | undefined;
  /** opaque part of a strong ETag (RFC 9110, 8.8.3), without quotes */
  readonly tag: string;
}

/** The page. */
export interface Page {
  /** 16 hexadecimal digits; another one as soon as any file differs */
  readonly version: string;
  /** by name, for example `app.js` */
  readonly files: ReadonlyMap<string, PageFile>;
}

const types: Readonly<Record<string, string>> = {
  html: "text/html; charset=utf-8",
  css: "text/css; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  svg: "image/svg+xml",
  png: "image/png",
  webmanifest: "application/manifest+json",
};

const folder = new URL("../web/", import.meta.url);

function digest(...parts: readonly Uint8Array[]): string {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest("hex").slice(0, 16);
}

function toFile(name: string, bytes: Uint8Array<ArrayBuffer>): PageFile {
  const compressed = new Uint8Array(gzipSync(bytes, { level: 9 }));
  return {
    type: types[name.split(".").at(-1)!]!,
    bytes,
    gzip: compressed.length < bytes.length ? compressed : undefined,
    tag: digest(bytes),
  };
}

/**
 * Reads `web/`. In HTML, manifest and service worker `{version}` stands for the version, which is a folder of the
 * files' addresses: they may be cached for ever, and modules still name each other relatively. `{files}` stands for the
 * addresses of all that the page needs offline, with spaces between.
 *
 * @returns the page
 * @throws {Deno.errors.NotFound} when the folder is missing
 */
export function readPage(): Page {
  const names = [...Deno.readDirSync(folder)].map(({ name }) => name).filter((name) =>
    types[name.split(".").at(-1)!] !== undefined
  ).sort();
  const contents = names.map((name) => Deno.readFileSync(new URL(name, folder)));
  const version = digest(...contents);
  const shell = names.filter((name) => /\.(js|css|svg)$/.test(name) && name !== "service_worker.js");
  const files = shell.map((name) => `/web/${version}/${name}`).join(" ");
  const read = names.map((name, index) => {
    const bytes = contents[index]!;
    if (!/\.(html|webmanifest)$|^service_worker\.js$/.test(name)) return [name, toFile(name, bytes)] as const;
    const text = new TextDecoder().decode(bytes).replaceAll("{version}", version).replace("{files}", files);
    return [name, toFile(name, new TextEncoder().encode(text))] as const;
  });
  return { version, files: new Map(read) };
}
