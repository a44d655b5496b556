/** `deno task openapi`: writes the contract to `openapi.json`. */

import { formatDocument } from "./document.ts";

const target = new URL("../openapi.json", import.meta.url);
await Deno.writeTextFile(target, formatDocument());
console.log("wrote openapi.json");
