/** A photo from the computer's camera; phones use their own app. */

import { photoFromVideo } from "./photo.js";

const $ = (id) => document.getElementById(id);

/**
 * Opens the camera and lets the person take one photo.
 *
 * @param {(photo: Blob) => void} onPhoto
 */
export async function startCamera(onPhoto) {
  const dialog = $("camera-dialog");
  const video = $("video");
  const problem = $("camera-problem");
  let stream;
  const stop = () => stream?.getTracks().forEach((track) => track.stop());
  dialog.onclose = stop;
  $("camera-close").onclick = () => dialog.close();
  $("camera-take").disabled = true;
  $("camera-take").onclick = async () => {
    const photo = await photoFromVideo(video);
    dialog.close();
    onPhoto(photo);
  };
  problem.hidden = true;
  dialog.showModal();
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user" } });
    // closed meanwhile, or closed and opened again
    if (!dialog.open || dialog.onclose !== stop) return stop();
    video.srcObject = stream;
    await video.play();
    $("camera-take").disabled = false;
  } catch {
    problem.textContent = "There is no camera, or this page may not use it. Choose a file instead.";
    problem.hidden = false;
  }
}
