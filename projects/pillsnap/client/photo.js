// The client's half of the contract: upright, centre square, contract size, JPEG. The server does the rest.

// Reads a file; the browser turns it upright by its EXIF data.
export async function readPhoto(file) {
  try {
    return await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    throw new Error("This file is not a photo that your browser can read.");
  }
}

// Draws the centre square of a photo or video frame onto a canvas of `size` pixels.
// Halved step by step first, as long as it is more than twice too large: browsers differ in how they shrink at once,
// and those that look at four pixels only would lose the imprint.
export function drawSquare(canvas, source, width, height, size) {
  let side = Math.min(width, height);
  let left = Math.floor((width - side) / 2);
  let top = Math.floor((height - side) / 2);
  let from = source;
  while (side > 2 * size) {
    const half = Math.ceil(side / 2);
    const step = new OffscreenCanvas(half, half);
    draw(step, from, left, top, side, half);
    [from, left, top, side] = [step, 0, 0, half];
  }
  canvas.width = canvas.height = size;
  draw(canvas, from, left, top, side, size);
}

function draw(canvas, source, left, top, side, size) {
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  context.fillStyle = "white"; // under what is transparent, as on the server
  context.fillRect(0, 0, size, size);
  context.drawImage(source, left, top, side, side, 0, 0, size, size);
}

export function toJpeg(canvas, contract) {
  return new Promise((resolve, reject) => {
    const done = (blob) => (blob ? resolve(blob) : reject(new Error("Your browser could not make a JPEG of the photo.")));
    canvas.toBlob(done, contract.format, contract.jpeg_quality / 100);
  });
}
