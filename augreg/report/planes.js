// Pictures of a model: instances and correlations in one plane each. The functions of the model are those of maths.js.

// a picture of one plane: pixels on one canvas, lines on a finer one above it
class Plane {
  constructor(host, { axes, up }, name) {
    this.axes = axes;
    this.up = up;
    this.third = D === 3 ? 3 - axes[0] - axes[1] : null;
    [this.width, this.height] = axes.map((a) => size[a]);
    const [w, h] = axes.map((a) => size[a] * model.spacing[a]);
    const frame = host.appendChild(document.createElement("div"));
    frame.className = "plane";
    frame.style.aspectRatio = `${w} / ${h}`;
    // planes side by side are equally high
    frame.style.flexGrow = 100 * (w / h);
    this.picture = frame.appendChild(document.createElement("canvas"));
    this.picture.width = this.width;
    this.picture.height = this.height;
    this.picture.setAttribute("role", "img");
    const way = `${"xyz"[axes[0]]} to the right, ${"xyz"[axes[1]]} ${up ? "upwards" : "downwards"}`;
    this.picture.setAttribute("aria-label", `${name}, ${way}`);
    this.lines = frame.appendChild(document.createElement("canvas"));
    this.fine = Math.max(2, Math.ceil(900 / Math.max(this.width, this.height)));
    // the finer canvas keeps millimetres square
    const square = (w / this.width) / (h / this.height);
    this.fineX = this.fine * Math.max(1, square);
    this.fineY = this.fine * Math.max(1, 1 / square);
    this.lines.width = Math.round(this.width * this.fineX);
    this.lines.height = Math.round(this.height * this.fineY);
    this.frame = frame;
  }

  // the index of picture position (i, j)
  index(i, j, at, y) {
    y[this.axes[0]] = i;
    y[this.axes[1]] = this.up ? this.height - 1 - j : j;
    if (this.third !== null) y[this.third] = at[this.third];
    return y;
  }

  // the picture position (i, j) of an index
  pixel(x) {
    const j = x[this.axes[1]];
    return [x[this.axes[0]], this.up ? this.height - 1 - j : j];
  }

  // where an index lies on the finer canvas
  place(x) {
    const [i, j] = this.pixel(x);
    return [(i + 0.5) * this.fineX, (j + 0.5) * this.fineY];
  }

  // colour(index of the pixel) -> [r, g, b]
  paint(colour) {
    const context = this.picture.getContext("2d");
    const data = context.createImageData(this.width, this.height);
    for (let j = 0, k = 0; j < this.height; j++) {
      for (let i = 0; i < this.width; i++, k += 4) {
        const [r, g, b] = colour(i, j);
        data.data[k] = r;
        data.data[k + 1] = g;
        data.data[k + 2] = b;
        data.data[k + 3] = 255;
      }
    }
    context.putImageData(data, 0, 0);
  }

  clear() {
    const context = this.lines.getContext("2d");
    context.clearRect(0, 0, this.lines.width, this.lines.height);
    // as thick on the screen in every plane
    context.lineWidth = (1.2 * this.lines.width) / this.frame.clientWidth;
    return context;
  }
}

const [black, white] = model.window;
const grey = (v) => Math.round((255 * (clamp(v, black, white) - black)) / (white - black));

// psi^-1 at all pixels of a plane, (height, width, D); the least determinant
function sources(plane, c, at) {
  const { width, height } = plane;
  // the inverse is smooth: every other pixel is enough where there are many
  const stride = width * height > 20000 ? 2 : 1;
  const across = Math.ceil((width - 1) / stride) + 1, down = Math.ceil((height - 1) / stride) + 1;
  const coarse = new Float32Array(across * down * D);
  const x = new Float64Array(D), y = new Float64Array(D), shift = new Float64Array(D);
  let least = Infinity;
  for (let j = 0; j < down; j++) {
    // the neighbour's answer is a good first guess
    for (let d = 0; d < D; d++) shift[d] = j ? coarse[(j - 1) * across * D + d] : 0;
    for (let i = 0; i < across; i++) {
      plane.index(i * stride, j * stride, at, y);
      for (let d = 0; d < D; d++) x[d] = y[d] + shift[d];
      least = Math.min(least, invert(c, y, x));
      for (let d = 0; d < D; d++) coarse[(j * across + i) * D + d] = shift[d] = x[d] - y[d];
    }
  }
  const out = new Float32Array(width * height * D);
  for (let j = 0, k = 0; j < height; j++) {
    const q = Math.floor(j / stride), t = j / stride - q, below = t ? across * D : 0;
    for (let i = 0; i < width; i++) {
      const p = Math.floor(i / stride), s = i / stride - p, right = s ? D : 0, base = (q * across + p) * D;
      plane.index(i, j, at, y);
      for (let d = 0; d < D; d++, k++) {
        const top = (1 - s) * coarse[base + d] + s * coarse[base + right + d];
        const bottom = (1 - s) * coarse[base + below + d] + s * coarse[base + below + right + d];
        out[k] = y[d] + (1 - t) * top + t * bottom;
      }
    }
  }
  return { at: out, least };
}

// ---- the instance ----

function drawInstance(plane, numbers) {
  const { c, appearance, labels, slice, show } = numbers;
  const { at, least } = sources(plane, c, slice);
  const x = new Float64Array(D);
  plane.paint((i, j) => {
    for (let d = 0; d < D; d++) x[d] = at[(j * plane.width + i) * D + d];
    const v = grey(intensity(appearance, x));
    return [v, v, v];
  });
  const context = plane.clear();
  if (show.has("outlines")) drawOutlines(plane, context, labels, at);
  if (show.has("grid")) drawGrid(plane, context, c);
  if (show.has("landmarks")) drawLandmarks(plane, context, c, slice);
  return least;
}

// edges between pixels of different labels
function drawOutlines(plane, context, labels, at) {
  const { width, height, fineX, fineY } = plane;
  const found = new Int16Array(width * height);
  for (let k = 0; k < found.length; k++) {
    let i = 0;
    for (let a = 0; a < D; a++) {
      i = i * size[a] + mirror(Math.round(at[k * D + a]), size[a]);
    }
    found[k] = labels[i];
  }
  context.beginPath();
  for (let j = 0; j < height; j++) {
    for (let i = 0; i < width; i++) {
      const k = j * width + i;
      if (i + 1 < width && found[k] !== found[k + 1]) {
        context.moveTo((i + 1) * fineX, j * fineY);
        context.lineTo((i + 1) * fineX, (j + 1) * fineY);
      }
      if (j + 1 < height && found[k] !== found[k + width]) {
        context.moveTo(i * fineX, (j + 1) * fineY);
        context.lineTo((i + 1) * fineX, (j + 1) * fineY);
      }
    }
  }
  context.strokeStyle = "#ffd23f";
  context.stroke();
}

// where the lines of a regular grid of the mean shape go
function drawGrid(plane, context, c) {
  const lines = 20, x = new Float64Array(D);
  context.beginPath();
  for (const a of [0, 1]) {
    for (let line = 0; line <= lines; line++) {
      for (let k = 0; k <= 3 * lines; k++) {
        x[a] = (line / lines) * (size[a] - 1);
        x[1 - a] = (k / (3 * lines)) * (size[1 - a] - 1);
        carry(c, x);
        const [p, q] = plane.place(x);
        if (k) context.lineTo(p, q);
        else context.moveTo(p, q);
      }
    }
  }
  context.strokeStyle = "rgba(255, 150, 60, 0.75)";
  context.stroke();
}

function drawLandmarks(plane, context, c, slice) {
  const x = new Float64Array(D), radius = context.lineWidth * 1.5;
  context.fillStyle = "#35d0ff";
  for (let k = 0; k < model.landmarks.length; k += D) {
    for (let d = 0; d < D; d++) x[d] = model.landmarks[k + d];
    carry(c, x);
    if (plane.third !== null && Math.abs(x[plane.third] - slice[plane.third]) > 1.5) continue;
    const [p, q] = plane.place(x);
    context.beginPath();
    context.arc(p, q, radius, 0, 2 * Math.PI);
    context.fill();
  }
}

// ---- locality ----

const nodes = [...model.locality.nodes, 1].slice(0, 3);
const spread = size.map((n, a) => (n > 1 ? (nodes[a] - 1) / (n - 1) : 0));

const nearest = (point) => point.reduce((flat, v, a) => flat * nodes[a] + Math.round(v * spread[a]), 0);

// r(p, q) of node p with all nodes q
function correlations({ vectors, length }, p) {
  const out = new Float32Array(vectors.length / length);
  for (let q = 0; q < out.length; q++) {
    let sum = 0;
    for (let k = 0; k < length; k++) sum += vectors[p * length + k] * vectors[q * length + k];
    out[q] = sum;
  }
  return out;
}

// linear between the nodes
function between(values, x) {
  const at = [0, 0, 0], t = [0, 0, 0];
  for (let a = 0; a < D; a++) {
    at[a] = Math.min(Math.floor(x[a] * spread[a]), Math.max(nodes[a] - 2, 0));
    t[a] = x[a] * spread[a] - at[a];
  }
  let sum = 0;
  for (let corner = 0; corner < 1 << D; corner++) {
    let w = 1, flat = 0;
    for (let a = 0; a < 3; a++) {
      const far = (corner >> a) & 1;
      if (a < D) w *= far ? t[a] : 1 - t[a];
      flat = flat * nodes[a] + at[a] + far;
    }
    if (w) sum += w * values[flat];
  }
  return sum;
}

const red = [214, 40, 40], blue = [38, 90, 214];

function drawCorrelation(plane, r, mean, point) {
  const x = new Float64Array(D);
  plane.paint((i, j) => {
    plane.index(i, j, point, x);
    const v = grey(mean[(Math.round(x[0]) * size[1] + Math.round(x[1])) * size[2] + (D === 3 ? Math.round(x[2]) : 0)]);
    const here = between(r, x), colour = here > 0 ? red : blue, share = Math.min(0.85 * Math.abs(here), 0.85);
    return colour.map((part) => (1 - share) * v + share * part);
  });
  const context = plane.clear(), [p, q] = plane.place(point), thin = context.lineWidth, arm = 11 * thin;
  for (const [colour, width] of [["#000", 4 * thin], ["#fff", 2 * thin]]) {
    context.beginPath();
    for (const [a, b] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(p + (a * arm) / 3, q + (b * arm) / 3);
      context.lineTo(p + a * arm, q + b * arm);
    }
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.stroke();
  }
}
