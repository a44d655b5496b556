/** The reference photo beside the portraits made from it, in one picture. */

import type { Buffer } from "node:buffer";
import sharp from "sharp";
import type { DetectedFace } from "../pipeline/protocol.ts";

/** The photo the portraits were made from. */
export interface SheetReference {
  /** the encoded photo */
  readonly photo: Uint8Array;
  /** its face's box in pixels of the upright photo */
  readonly box: DetectedFace["box"];
}

/** Pixels; small portraits are enlarged to a cell, larger ones made smaller. */
const sheet = { cell: 256, gap: 12, columns: 4, background: "#f2f2f0" } as const;

/** Side of the square that is shown, in box sides: about a portrait's own framing. */
const framing = 1.6;

/** IPTC's term for a picture composed of others, some of which a trained model made. */
const sourceType = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia";

const xmp = `<?xpacket begin="\uFEFF" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">
<Iptc4xmpExt:DigitalSourceType>${sourceType}</Iptc4xmpExt:DigitalSourceType>
</rdf:Description>
</rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>`;

/** The square around the face, moved and shrunk to lie inside the photo. */
async function cropFace({ photo, box }: SheetReference): Promise<Buffer> {
  const { data, info } = await sharp(photo).autoOrient().png().toBuffer({ resolveWithObject: true });
  const side = Math.round(Math.min(framing * Math.max(box.width, box.height), info.width, info.height));
  const start = (middle: number, length: number) =>
    Math.round(Math.min(Math.max(middle - side / 2, 0), length - side));
  return sharp(data).extract({
    left: start(box.x + box.width / 2, info.width),
    top: start(box.y + box.height / 2, info.height),
    width: side,
    height: side,
  }).png().toBuffer();
}

function toCell(picture: Uint8Array): Promise<Buffer> {
  const { cell } = sheet;
  return sharp(picture).resize(cell, cell, { fit: "cover", kernel: "lanczos3" }).png().toBuffer();
}

/**
 * Draws the contact sheet: the reference's face at the left, the portraits beside it in rows of four.
 *
 * @param reference the photo and where its face is
 * @param portraits encoded pictures, at least one
 * @returns a PNG, marked as a composite with synthetic parts (IPTC digital source type)
 *
 * @example
 * ```ts
 * await Deno.writeFile("sheet.png", await drawContactSheet({ photo, box: report.faces[0].box }, portraits));
 * ```
 */
export async function drawContactSheet(
  reference: SheetReference,
  portraits: readonly Uint8Array[],
): Promise<Uint8Array> {
  const { cell, gap, columns, background } = sheet;
  // twice the gap sets the reference apart
  const firstLeft = gap + cell + 2 * gap;
  const column = (index: number) => index % columns;
  const row = (index: number) => Math.floor(index / columns);
  const cells = [
    { input: await toCell(await cropFace(reference)), left: gap, top: gap },
    ...await Promise.all(portraits.map(async (portrait, index) => ({
      input: await toCell(portrait),
      left: firstLeft + column(index) * (cell + gap),
      top: gap + row(index) * (cell + gap),
    }))),
  ];
  const width = firstLeft + Math.min(portraits.length, columns) * (cell + gap);
  const height = gap + Math.ceil(portraits.length / columns) * (cell + gap);
  return sharp({ create: { width, height, channels: 3, background } })
    .composite(cells)
    .removeAlpha()
    .withXmp(xmp)
    .png()
    .toBuffer();
}
