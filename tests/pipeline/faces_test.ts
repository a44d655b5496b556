import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import sharp from "sharp";
import { type FaceDetector } from "../../models/face_detector.ts";
import { type FaceModels, loadFaceModels } from "../../models/models.ts";
import { type Bundle } from "../../models/manifest.ts";
import { zeros } from "../../models/tensor.ts";
import { reportFaces, sharpness } from "../../pipeline/check_face.ts";
import { detectFaces, fitToSquare, type ScoredBox, suppressOverlaps } from "../../pipeline/detection.ts";
import { type Face, findFaces, MIN_EYE_DISTANCE, onlyFace, prominentFaces } from "../../pipeline/faces.ts";
import { cosine, identitySimilarity } from "../../pipeline/identity.ts";
import { fivePoints } from "../../pipeline/landmarks.ts";
import { decodePhoto, type Photo } from "../../pipeline/photo.ts";
import { type FaceReport, PipelineError, type PipelineErrorCode } from "../../pipeline/protocol.ts";
import { alignFace } from "../../pipeline/alignment.ts";
import { toTensor } from "../../pipeline/warp.ts";
import { portrait, realBundle, sessionSettings } from "../real_bundle.ts";

/** A face whose box is a square of `side` and whose eyes are `eyes` apart. */
function madeUpFace(side: number, eyes: number): Face {
  const [x, y] = [side / 2, side / 2];
  const points = [[x - eyes / 2, y], [x + eyes / 2, y], [x, y + 10], [x - 8, y + 20], [
    x + 8,
    y + 20,
  ]] as const;
  return { box: { x: 0, y: 0, width: side, height: side, score: 0.9 }, outline: [], points };
}

function codeOf(action: () => unknown): PipelineErrorCode | undefined {
  try {
    action();
  } catch (error) {
    assert.ok(error instanceof PipelineError, String(error));
    return error.code;
  }
  return undefined;
}

Deno.test("of boxes that overlap, the most confident stays", () => {
  const box = (x: number, score: number): ScoredBox => ({ x, y: 0, width: 10, height: 10, score });
  // 0 and 2 overlap by 80 of 120; 0 and 6 by 40 of 160.
  const kept = suppressOverlaps([box(2, 0.7), box(0, 0.9), box(6, 0.8)], 0.3);
  assert.deepEqual(kept.map(({ x }) => x), [0, 6]);
  assert.deepEqual(suppressOverlaps([box(2, 0.7), box(0, 0.9)], 0.7).map(({ x }) => x), [0, 2]);
});

Deno.test("a photo is fitted to the square, black at the right and bottom", () => {
  const photo = { width: 40, height: 20, data: new Uint8Array(40 * 20 * 3).fill(200) };
  const square = fitToSquare(photo, 80);
  assert.deepEqual(square.dims, [1, 3, 80, 80]);
  for (const channel of [0, 1, 2]) {
    const at = (x: number, y: number) => square.data[(channel * 80 + y) * 80 + x];
    const shown = Math.fround(200 / 255);
    assert.deepEqual([at(0, 0), at(79, 39), at(0, 40), at(79, 79)], [shown, shown, 0, 0]);
  }
  const asItIs = fitToSquare(photo, 48, 1);
  for (const channel of [0, 1, 2]) {
    const at = (x: number, y: number) => asItIs.data[(channel * 48 + y) * 48 + x];
    const shown = Math.fround(200 / 255);
    assert.deepEqual([at(0, 0), at(39, 19), at(40, 19), at(39, 20)], [shown, shown, 0, 0]);
  }
});

Deno.test("the detector sees each photo on black, whatever it has seen before or sees at the same time", async () => {
  const settings = { input_size: 32, enlarges: false, score_threshold: 0.5, iou_threshold: 0.3 };
  const photo = (width: number, height: number, grey: number) => ({
    width,
    height,
    data: new Uint8Array(width * height * 3).fill(grey),
  });
  const photos = [photo(32, 32, 250), photo(40, 10, 200), photo(10, 40, 150)];
  const expected = photos.map((photo) => fitToSquare(photo, 32).data);
  const seen: Float32Array[] = [];
  const used = new Set<Float32Array>();
  const detector: FaceDetector = async ({ data }) => {
    used.add(data);
    await Promise.resolve();
    seen.push(data.slice());
    return { boxes: zeros([0, 4]), scores: zeros([0]) };
  };
  for (const photo of photos) await detectFaces(photo, detector, settings);
  await Promise.all(photos.map((photo) => detectFaces(photo, detector, settings)));
  assert.deepEqual(seen, [...expected, ...expected]);
  for (const data of used) assert.ok(data.every((value) => value === 0), "nothing of a photo stays");
});

Deno.test("where the detector enlarges, no photo is enlarged for it, and boxes are the photo's pixels", async () => {
  const seen: (readonly number[])[] = [];
  const detector: FaceDetector = ({ dims }) => {
    seen.push(dims);
    return Promise.resolve({
      boxes: { data: new Float32Array([0, 0.25, 0.5, 1]), dims: [1, 4] },
      scores: { data: new Float32Array([0.9]), dims: [1] },
    });
  };
  const boxes = (width: number, height: number, enlarges: boolean) => {
    const settings = { input_size: 96, enlarges, score_threshold: 0.5, iou_threshold: 0.3 };
    return detectFaces({ width, height, data: new Uint8Array(width * height * 3) }, detector, settings);
  };
  for (const [width, height] of [[60, 20], [20, 60], [96, 96], [300, 30]] as const) {
    for (const enlarges of [true, false]) {
      // how much of the photo's length the square shows
      const longer = enlarges ? Math.max(64, width, height) : Math.max(width, height);
      const [box] = await boxes(width, height, enlarges);
      const { x, y, width: across, height: down } = box!;
      for (const [found, share] of [[x, 0], [y, 0.25], [across, 0.5], [down, 0.75]] as const) {
        assert.ok(Math.abs(found - share * longer) < 1e-3, `${found} of ${longer}`);
      }
    }
  }
  assert.deepEqual(seen.map(([, , side]) => side), [64, 96, 64, 96, 96, 96, 96, 96]);
});

Deno.test("five points are means of the eyes' points, nose and mouth corners", () => {
  const points = Array.from({ length: 68 }, (_, index) => [index, 2 * index] as const);
  assert.deepEqual(fivePoints(points), [[38.5, 77], [44.5, 89], [30, 60], [48, 96], [54, 108]]);
  assert.throws(() => fivePoints(points.slice(1)), RangeError);
});

Deno.test("a face under a quarter of the largest one's area is background", () => {
  const [large, near, far] = [madeUpFace(100, 40), madeUpFace(50, 30), madeUpFace(49, 30)];
  assert.deepEqual(prominentFaces([large, near, far]), [large, near]);
  assert.equal(onlyFace([large, far]), large);
  assert.equal(codeOf(() => onlyFace([large, near])), "multiple_faces");
  assert.equal(codeOf(() => onlyFace([])), "face_not_found");
  assert.equal(codeOf(() => onlyFace([madeUpFace(60, MIN_EYE_DISTANCE - 1)])), "face_too_small");
});

Deno.test("cosine", () => {
  assert.equal(cosine(new Float32Array([2, 0]), new Float32Array([5, 0])), 1);
  assert.equal(cosine(new Float32Array([0, 1]), new Float32Array([5, 0])), 0);
  assert.equal(cosine(new Float32Array([0, 0]), new Float32Array([5, 0])), 0);
  assert.throws(() => cosine(new Float32Array(2), new Float32Array(3)), RangeError);
});

Deno.test("real photos", async (t) => {
  const bundle = await realBundle();
  const models = await loadFaceModels(bundle, sessionSettings);
  const original = Buffer.from(await portrait());
  const { width, height } = await decodePhoto(original);
  const report = (photo: Photo) => reportOf(photo, models, bundle);

  await t.step("a portrait has one face, and its points stand where a face has them", async () => {
    const { faces, problems, usable } = await report(await decodePhoto(original));
    assert.equal(faces.length, 1);
    assert.deepEqual(problems.filter(({ blocking }) => blocking), []);
    assert.equal(usable, problems.length === 0);
    const { box, landmarks: [rightEye, leftEye, nose, rightMouth, leftMouth] } = faces[0]!;
    assert.ok(rightEye![0] < leftEye![0] && rightMouth![0] < leftMouth![0], "the right eye is on the left");
    assert.ok(rightEye![1] < nose![1] && nose![1] < rightMouth![1] && nose![1] < leftMouth![1]);
    for (const [x, y] of faces[0]!.landmarks) {
      assert.ok(x > box.x && x < box.x + box.width && y > box.y && y < box.y + 1.2 * box.height);
    }
  });

  await t.step("in a photo twice as large everything is twice as far", async () => {
    const [small] = (await report(await decodePhoto(original))).faces;
    const doubled = sharp(original).resize(2 * width, 2 * height, { kernel: "nearest" });
    const [large] = (await report(await decodePhoto(await doubled.png().toBuffer()))).faces;
    const eyes = small!.landmarks[1]![0] - small!.landmarks[0]![0];
    small!.landmarks.forEach(([x, y], index) => {
      const [largeX, largeY] = large!.landmarks[index]!;
      assert.ok(Math.abs(largeX - 2 * x) < 0.2 * eyes && Math.abs(largeY - 2 * y) < 0.2 * eyes);
    });
  });

  await t.step("two people side by side are refused, one far behind is not", async () => {
    const beside = sharp({ create: { width: 2 * width, height, channels: 3, background: "grey" } })
      .composite([{ input: original, left: 0, top: 0 }, { input: original, left: width, top: 0 }]);
    const two = await report(await decodePhoto(await beside.png().toBuffer()));
    assert.equal(two.faces.length, 2);
    assert.deepEqual(blockingCodes(two), ["multiple_faces"]);

    const tiny = await sharp(original).resize(Math.round(0.4 * width)).png().toBuffer();
    const behind = sharp({ create: { width: 2 * width, height, channels: 3, background: "grey" } })
      .composite([{ input: original, left: 0, top: 0 }, { input: tiny, left: width + 40, top: 10 }]);
    assert.deepEqual(blockingCodes(await report(await decodePhoto(await behind.png().toBuffer()))), []);
  });

  await t.step("no face, and a face too small", async () => {
    const grey = { width: 200, height: 200, data: new Uint8Array(200 * 200 * 3).fill(128) };
    assert.deepEqual(blockingCodes(await report(grey)), ["face_not_found"]);
    const small = await sharp(original).resize(56).png().toBuffer();
    assert.deepEqual(blockingCodes(await report(await decodePhoto(small))), ["face_too_small"]);
  });

  await t.step("a blurred face and one cut off get advice, not refusal", async () => {
    const blurred = await report(await decodePhoto(await sharp(original).blur(2).png().toBuffer()));
    assert.ok(blurred.problems.some(({ code, blocking }) => code === "blurred" && !blocking));
    assert.ok(!blurred.usable);
    const { box } = (await report(await decodePhoto(original))).faces[0]!;
    const left = Math.round(box.x + 0.3 * box.width);
    const cut = sharp(original).extract({ left, top: 0, width: width - left, height });
    const codes = (await report(await decodePhoto(await cut.png().toBuffer()))).problems.map(({ code }) =>
      code
    );
    assert.ok(codes.includes("face_cut_off"), `problems: ${codes}`);
  });

  await t.step("a person is more like themselves, mirrored, than like nobody", async () => {
    const photo = await decodePhoto(original);
    const mirrored = await decodePhoto(await sharp(original).flop().png().toBuffer());
    const face = onlyFace(await findFaces(photo, models, bundle.manifest.faces));
    const crop = alignFace(photo, face.points, bundle.manifest.faces.recognizer);
    const { data } = await models.faceRecognizer(toTensor([crop]));
    const same = await identitySimilarity(mirrored, data, models, bundle.manifest.faces);
    assert.ok(same !== null && same > 0.5, `cosine ${same}`);
    const nobody = { width: 64, height: 64, data: new Uint8Array(64 * 64 * 3) };
    assert.equal(await identitySimilarity(nobody, data, models, bundle.manifest.faces), null);
    assert.ok(sharpness(crop) > 0);
  });
});

async function reportOf(photo: Photo, models: FaceModels, { manifest }: Bundle): Promise<FaceReport> {
  return reportFaces(photo, await findFaces(photo, models, manifest.faces), manifest.faces.recognizer);
}

function blockingCodes(report: FaceReport): string[] {
  return report.problems.filter(({ blocking }) => blocking).map(({ code }) => code);
}
