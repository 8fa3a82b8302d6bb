// The functions of an appearance model, in the index space of the shown grid; the numbers are those of payload.py. Arrays are
// row-major with x first, and a plane is a volume of one layer.
//     psi(x) = x + v(x) or exp(v)(x),    v(x) = sum_k b_k sum_j b_j(x) c_kj,    image(y) = a(psi^-1(y))
// psi^-1 is found by Newton's method on the model's own cubic B-spline, or by going back along a velocity, and a is interpolated
// by cubic B-splines with mirrored borders: the same functions as AppearanceModel.instance.
"use strict";

const model = JSON.parse(document.getElementById("model").textContent);
const D = model.shape.length;
const size = [...model.shape, 1].slice(0, 3);

// ---- numbers ----

async function unpack({ scale, bits, data }) {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  const inflated = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(inflated).arrayBuffer();
  return Float32Array.from(bits === 8 ? new Int8Array(buffer) : new Int16Array(buffer), (v) => v * scale);
}

function combine(base, parts, weights) {
  const out = Float32Array.from(base);
  parts.forEach((part, k) => {
    const w = weights[k];
    if (w) for (let i = 0; i < out.length; i++) out[i] += w * part[i];
  });
  return out;
}

const clamp = (v, low, high) => Math.min(Math.max(v, low), high);

// ---- cubic B-splines ----

function weightsAt(t, w) {
  const s = 1 - t;
  w[0] = (s * s * s) / 6;
  w[1] = 2 / 3 - t * t * (1 - t / 2);
  w[2] = 2 / 3 - s * s * (1 - s / 2);
  w[3] = (t * t * t) / 6;
}

function slopesAt(t, w) {
  const s = 1 - t;
  w[0] = (-s * s) / 2;
  w[1] = -2 * t + 1.5 * t * t;
  w[2] = 2 * s - 1.5 * s * s;
  w[3] = (t * t) / 2;
}

function mirror(index, n) {
  const i = Math.abs(index) % (2 * n - 2);
  return i < n ? i : 2 * n - 2 - i;
}

// values to B-spline coefficients, in place, along every axis (Unser 1999)
function prefilter(values) {
  const z = Math.sqrt(3) - 2;
  const strides = [size[1] * size[2], size[2], 1];
  for (let a = 0; a < D; a++) {
    const n = size[a], step = strides[a];
    const line = new Float64Array(n);
    for (let block = 0; block < values.length; block += n * step) {
      for (let start = block; start < block + step; start++) {
        for (let i = 0; i < n; i++) line[i] = 6 * values[start + i * step];
        let first = 0;
        for (let k = 0, power = 1; k < 28; k++, power *= z) first += power * line[mirror(k, n)];
        line[0] = first;
        for (let i = 1; i < n; i++) line[i] += z * line[i - 1];
        line[n - 1] = (z / (z * z - 1)) * (line[n - 1] + z * line[n - 2]);
        for (let i = n - 2; i >= 0; i--) line[i] = z * (line[i + 1] - line[i]);
        for (let i = 0; i < n; i++) values[start + i * step] = line[i];
      }
    }
  }
  return values;
}

const taps = [0, 1, 2].map(() => ({ at: new Int32Array(4), w: new Float64Array(4), dw: new Float64Array(4) }));
const layers = D === 3 ? 4 : 1;
if (D === 2) taps[2].w[0] = 1;

// the appearance with coefficients c at index x
function intensity(c, x) {
  for (let a = 0; a < D; a++) {
    const n = size[a], last = 2 * (n - 1);
    let v = Math.abs(x[a]) % last;
    if (v > n - 1) v = last - v;
    const first = Math.floor(v);
    weightsAt(v - first, taps[a].w);
    for (let k = 0; k < 4; k++) taps[a].at[k] = mirror(first - 1 + k, n);
  }
  let sum = 0;
  for (let i = 0; i < 4; i++) {
    for (let j = 0; j < 4; j++) {
      const row = (taps[0].at[i] * size[1] + taps[1].at[j]) * size[2], w = taps[0].w[i] * taps[1].w[j];
      for (let k = 0; k < layers; k++) sum += w * taps[2].w[k] * c[row + taps[2].at[k]];
    }
  }
  return sum;
}

const control = [...model.spline.shape, 1].slice(0, 3);

// u = psi(x) - x and its Jacobian J[d * D + a] = du_d / dx_a at index x
function displacement(c, x, u, J) {
  for (let a = 0; a < D; a++) {
    const step = model.spline.step[a];
    const at = clamp(step * x[a] + model.spline.start[a], 1, control[a] - 2 - 1e-6);
    const first = Math.floor(at);
    weightsAt(at - first, taps[a].w);
    slopesAt(at - first, taps[a].dw);
    for (let k = 0; k < 4; k++) {
      taps[a].at[k] = first - 1 + k;
      taps[a].dw[k] *= step;
    }
  }
  u.fill(0);
  J.fill(0);
  for (let i = 0; i < 4; i++) {
    for (let j = 0; j < 4; j++) {
      const row = (taps[0].at[i] * control[1] + taps[1].at[j]) * control[2];
      const w = taps[0].w[i] * taps[1].w[j], w0 = taps[0].dw[i] * taps[1].w[j], w1 = taps[0].w[i] * taps[1].dw[j];
      for (let k = 0; k < layers; k++) {
        const base = (row + taps[2].at[k]) * D, t = taps[2].w[k];
        for (let d = 0; d < D; d++) {
          const v = c[base + d];
          u[d] += w * t * v;
          J[d * D] += w0 * t * v;
          J[d * D + 1] += w1 * t * v;
          if (D === 3) J[d * D + 2] += w * taps[2].dw[k] * v;
        }
      }
    }
  }
}

// ---- the inverse ----

// step with (1 + J) step = r; the determinant
function solve(J, r, step) {
  if (D === 2) {
    const a = 1 + J[0], b = J[1], c = J[2], d = 1 + J[3], det = a * d - b * c;
    step[0] = (d * r[0] - b * r[1]) / det;
    step[1] = (a * r[1] - c * r[0]) / det;
    return det;
  }
  const [a, b, c, d, e, f, g, h, i] = [1 + J[0], J[1], J[2], J[3], 1 + J[4], J[5], J[6], J[7], 1 + J[8]];
  const A = e * i - f * h, B = f * g - d * i, C = d * h - e * g, det = a * A + b * B + c * C;
  step[0] = (A * r[0] + (c * h - b * i) * r[1] + (b * f - c * e) * r[2]) / det;
  step[1] = (B * r[0] + (a * i - c * g) * r[1] + (c * d - a * f) * r[2]) / det;
  step[2] = (C * r[0] + (b * g - a * h) * r[1] + (a * e - b * d) * r[2]) / det;
  return det;
}

const u = new Float64Array(D), J = new Float64Array(D * D), rest = new Float64Array(D), step = new Float64Array(D);

const half = new Float64Array(D);

// x carried along a velocity for unit time, back for sign -1: the midpoint rule
function advance(c, x, sign) {
  const h = sign / model.spline.steps;
  for (let n = 0; n < model.spline.steps; n++) {
    displacement(c, x, u, J);
    for (let d = 0; d < D; d++) half[d] = x[d] + 0.5 * h * u[d];
    displacement(c, half, u, J);
    for (let d = 0; d < D; d++) x[d] += h * u[d];
  }
}

// psi(x) in place
function carry(c, x) {
  if (model.spline.steps) return advance(c, x, 1);
  displacement(c, x, u, J);
  for (let d = 0; d < D; d++) x[d] += u[d];
}

// x with psi(x) = y, from a first guess in x; the determinant of D psi there, or 1 where psi cannot fold
function invert(c, y, x) {
  if (model.spline.steps) {
    for (let d = 0; d < D; d++) x[d] = y[d];
    advance(c, x, -1);
    return 1;
  }
  let det = 1;
  for (let iteration = 0; iteration < 20; iteration++) {
    displacement(c, x, u, J);
    let worst = 0;
    for (let d = 0; d < D; d++) {
      rest[d] = y[d] - x[d] - u[d];
      worst = Math.max(worst, Math.abs(rest[d]));
    }
    det = solve(J, rest, step);
    if (worst < 0.003) break;
    // where psi folds, Newton goes astray: plain steps instead
    const plain = det < 0.05;
    for (let d = 0; d < D; d++) x[d] += plain ? 0.5 * rest[d] : clamp(step[d], -8, 8);
  }
  return det;
}
