/** Caches the page itself, so that it opens without a connection. Never anything of the API. */

const SHELL = "idadapter-{version}";
const FILES = "/ {files}".split(" ");

self.addEventListener("install", (event) => {
  event.waitUntil(
    caches.open(SHELL).then((cache) => cache.addAll(FILES)).then(() => self.skipWaiting()),
  );
});

self.addEventListener("activate", (event) => {
  event.waitUntil((async () => {
    for (const name of await caches.keys()) {
      if (name.startsWith("idadapter-") && name !== SHELL) await caches.delete(name);
    }
    await self.clients.claim();
  })());
});

self.addEventListener("fetch", (event) => {
  const { pathname, origin } = new URL(event.request.url);
  if (event.request.method !== "GET" || origin !== self.location.origin) return;
  if (pathname === "/") {
    // the newest page where there is a connection: its name for the other files changes with them
    event.respondWith(fetch(event.request).catch(() => caches.match("/")));
  } else if (pathname.startsWith("/web/")) {
    event.respondWith(caches.match(event.request).then((cached) => cached ?? fetch(event.request)));
  }
});
