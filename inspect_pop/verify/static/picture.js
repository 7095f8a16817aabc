// Pictures from 16-bit grey: the window of grey is chosen when a picture is drawn; what the machine wrote is never changed.
export const grey = { low: 0, high: 1, first: null };
const OUTSIDE = 40;
const BAR_UM = 100;

function findPercentiles(window, shares) {
  const { about, slices } = window;
  const counts = new Uint32Array(65536);
  const [top, left, bottom, right] = about.inside;
  const width = about.shape[2];
  let n = 0;
  slices.forEach((codes, k) => {
    if (about.lost.includes(k)) return;
    for (let row = top; row < bottom; row++) {
      for (let col = left; col < right; col++) {
        const code = codes[row * width + col];
        if (code === about.none) continue;
        counts[code]++;
        n++;
      }
    }
  });
  return shares.map((share) => {
    let seen = 0;
    for (let code = 0; code < 65536; code++) {
      seen += counts[code];
      if (seen > share * (n - 1)) return about.scale[0] + about.scale[1] * code;
    }
    return about.scale[0];
  });
}

export function resetGrey(window) {
  const [low, high] = findPercentiles(window, [0.01, 0.99]);
  grey.first = [low, high > low ? high : low + 1];
  [grey.low, grey.high] = grey.first;
}

// Moves the window by a share of its width, or makes it wider by a share.
export function changeGrey(move, widen) {
  const width = grey.high - grey.low;
  const middle = (grey.high + grey.low) / 2 + move * width;
  const half = Math.max((width / 2) * (1 + widen), 1e-6);
  [grey.low, grey.high] = [middle - half, middle + half];
}

function fitCanvas(canvas) {
  const size = Math.round(canvas.clientWidth * Math.min(devicePixelRatio, 2)) || 320;
  if (canvas.width !== size) canvas.width = canvas.height = size;
  return canvas.getContext("2d");
}

const scratch = document.createElement("canvas");

function drawCodes(context, codes, width, height, toByte) {
  scratch.width = width;
  scratch.height = height;
  const image = scratch.getContext("2d").createImageData(width, height);
  for (let i = 0; i < codes.length; i++) {
    const value = toByte(codes[i]);
    image.data.set([value, value, value, 255], 4 * i);
  }
  scratch.getContext("2d").putImageData(image, 0, 0);
  context.imageSmoothingQuality = "high";
  const scale = context.canvas.width / Math.max(width, height);
  const [w, h] = [width * scale, height * scale];
  context.drawImage(scratch, (context.canvas.width - w) / 2, (context.canvas.height - h) / 2, w, h);
  return scale;
}

export function clear(canvas) {
  const context = fitCanvas(canvas);
  context.fillStyle = "#0c1116";
  context.fillRect(0, 0, canvas.width, canvas.height);
  return context;
}

export function drawSlice(canvas, window, slice) {
  const context = clear(canvas);
  const { about, slices } = window;
  const [n, height, width] = about.shape;
  const codes = slices[Math.min(slice, n - 1)];
  const [offset, factor] = about.scale;
  const span = 255 / (grey.high - grey.low);
  const toByte = (code) => (code === about.none ? OUTSIDE : Math.min(255, Math.max(0, (offset + factor * code - grey.low) * span)));
  const scale = drawCodes(context, codes, width, height, toByte);
  hatchOutside(context, about, scale);
  drawTicks(context, about.centre, scale);
  drawBar(context, about.pixel_um, scale);
}

function hatchOutside(context, about, scale) {
  const [top, left, bottom, right] = about.inside;
  const [, height, width] = about.shape;
  context.fillStyle = "rgb(70 110 150 / .75)";
  for (const [x, y, w, h] of [[0, 0, width, top], [0, bottom, width, height - bottom], [0, 0, left, height], [right, 0, width - right, height]]) {
    if (w > 0 && h > 0) context.fillRect(x * scale, y * scale, w * scale, h * scale);
  }
}

// Short marks at the rim that point to the joint's expected place and leave the joint free.
function drawTicks(context, centre, scale) {
  const [y, x] = centre.map((at) => (at + 0.5) * scale);
  const size = context.canvas.width;
  const long = size / 18;
  context.strokeStyle = "#ffd24a";
  context.lineWidth = Math.max(2, size / 200);
  context.beginPath();
  for (const [x0, y0, x1, y1] of [[x, 0, x, long], [x, size, x, size - long], [0, y, long, y], [size, y, size - long, y]]) {
    context.moveTo(x0, y0);
    context.lineTo(x1, y1);
  }
  context.stroke();
}

function drawBar(context, pixel, scale) {
  const size = context.canvas.width;
  const length = (BAR_UM / pixel) * scale;
  if (length > size / 2) return;
  context.fillStyle = "#ffffff";
  context.fillRect(size * 0.04, size * 0.955, length, Math.max(3, size / 110));
  context.font = `${Math.round(size / 26)}px system-ui`;
  context.strokeStyle = "#000000";
  context.lineWidth = 3;
  for (const paint of ["strokeText", "fillText"]) context[paint](`${BAR_UM} µm`, size * 0.04, size * 0.945);
}

export function drawHeights(canvas, window) {
  const context = clear(canvas);
  if (!window.heights) return null;
  const { shape, offset_um: offset, factor_um: factor } = window.about.heights;
  const known = window.heights.filter((code) => code > 0);
  const low = known.reduce((a, b) => Math.min(a, b), 65535);
  const high = known.reduce((a, b) => Math.max(a, b), 0);
  const span = 235 / Math.max(high - low, 1);
  drawCodes(context, window.heights, shape[1], shape[0], (code) => (code ? 20 + (code - low) * span : 0));
  return [low, high].map((code) => offset + factor * (code - 1));
}
