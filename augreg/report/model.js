// What the page of an appearance model shows and how it answers; its pictures are those of planes.js.

const modes = { shape: model.spline.modes.length, texture: model.texture.length };
const middle = size.slice(0, D).map((n) => Math.floor(n / 2));
const last = size.slice(0, D).map((n) => n - 1);

const state = {
  shape: new Array(modes.shape).fill(0),
  texture: new Array(modes.texture).fill(0),
  slice: [...middle],
  point: [...middle],
  show: new Set(),
};

// seeded uniform numbers (mulberry32), made normal by Box and Muller
function normals(seed, count) {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  return Array.from({ length: count }, () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()));
}

const find = (id) => document.getElementById(id);
const fixed = (v, digits) => (v < 0 ? "\u2212" : "") + Math.abs(v).toFixed(digits);

function readHash() {
  const given = new URLSearchParams(location.hash.slice(1));
  const numbers = (key, low, high, otherwise) => {
    const parts = (given.get(key) ?? "").split(",").map(Number);
    return otherwise.map((v, i) => (given.get(key) && Number.isFinite(parts[i]) ? clamp(parts[i], low, high[i] ?? high) : v));
  };
  const zeros = (count) => new Array(count).fill(0);
  state.shape = numbers("shape", -3, 3, zeros(modes.shape));
  state.texture = numbers("texture", -3, 3, zeros(modes.texture));
  state.slice = numbers("slice", 0, last, middle).map(Math.round);
  state.point = numbers("point", 0, last, middle).map(Math.round);
  state.show = new Set((given.get("show") ?? "").split(",").filter(Boolean));
}

function writeHash() {
  const parts = [];
  const add = (key, values, used) => used && parts.push(`${key}=${values.map((v) => +v.toFixed(2)).join(",")}`);
  add("shape", state.shape, state.shape.some(Boolean));
  add("texture", state.texture, state.texture.some(Boolean));
  add("slice", state.slice, D === 3);
  add("point", state.point, true);
  if (state.show.size) parts.push(`show=${[...state.show].join(",")}`);
  history.replaceState(null, "", `#${parts.join("&")}`);
}

function fillControls() {
  for (const part of ["shape", "texture"]) {
    state[part].forEach((v, k) => {
      find(`${part}-${k + 1}`).value = v;
      find(`${part}-${k + 1}-value`).textContent = fixed(v, 1);
    });
  }
  for (const input of document.querySelectorAll("[data-slice]")) {
    input.value = state.slice[input.dataset.slice];
    find(`${input.id}-value`).textContent = input.value;
  }
  for (const input of document.querySelectorAll("[data-show]")) input.checked = state.show.has(input.dataset.show);
}

async function start() {
  const mean = await unpack(model.mean);
  const textures = await Promise.all(model.texture.map(unpack));
  const fields = await Promise.all(model.spline.modes.map(unpack));
  const labels = model.labels && Int16Array.from(await unpack(model.labels), Math.round);
  const alike = {};
  for (const part of ["shape", "texture"]) {
    const { length, vectors, deviation } = model.locality[part];
    alike[part] = { length, vectors: await unpack(vectors), deviation: await unpack(deviation) };
  }
  const still = new Float32Array(fields[0].length);
  const planes = model.views.map((view) => new Plane(find("instance"), view, "the instance"));
  const maps = { shape: [], texture: [] };
  for (const part of ["shape", "texture"]) {
    for (const view of model.views) {
      const plane = new Plane(find(`locality-${part}`), view, `correlation of ${part} with the chosen point`);
      const choose = (i, j) => {
        const at = [clamp(i, 0, plane.width - 1), clamp(j, 0, plane.height - 1)];
        state.point = Array.from(plane.index(...at, state.point, new Float64Array(D)));
        changed(drawLocality);
      };
      plane.frame.addEventListener("click", (event) => {
        const box = plane.frame.getBoundingClientRect();
        const share = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
        choose(Math.floor(share[0] * plane.width), Math.floor(share[1] * plane.height));
      });
      plane.frame.tabIndex = 0;
      plane.frame.addEventListener("keydown", (event) => {
        const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
        if (!arrow) return;
        event.preventDefault();
        const [i, j] = plane.pixel(state.point);
        choose(i + arrow[0], j + arrow[1]);
      });
      maps[part].push(plane);
    }
  }

  let texture = null, appearance = null;
  const [darkest, brightest] = model.limits;
  const drawInstances = () => {
    const begin = performance.now();
    if (String(state.texture) !== texture) {
      texture = String(state.texture);
      appearance = prefilter(combine(mean, textures, state.texture).map((v) => clamp(v, darkest, brightest)));
    }
    const numbers = { ...state, c: combine(still, fields, state.shape), appearance, labels };
    const least = Math.min(...planes.map((plane) => drawInstance(plane, numbers)));
    find("folded").hidden = least > 0;
    document.body.dataset.milliseconds = (performance.now() - begin).toFixed(1);
  };
  const drawLocality = () => {
    const p = nearest(state.point);
    for (const part of ["shape", "texture"]) {
      const r = correlations(alike[part], p);
      maps[part].forEach((plane) => drawCorrelation(plane, r, mean, state.point));
      find(`locality-${part}-deviation`).textContent = fixed(alike[part].deviation[p], part === "shape" ? 1 : 0);
    }
  };

  // one drawing per frame, however fast the sliders move
  const waiting = new Set();
  function changed(...draws) {
    fillControls();
    writeHash();
    if (!waiting.size) {
      requestAnimationFrame(() => {
        const due = [...waiting];
        waiting.clear();
        due.forEach((draw) => draw());
      });
    }
    draws.forEach((draw) => waiting.add(draw));
  }

  for (const part of ["shape", "texture"]) {
    state[part].forEach((_, k) => {
      find(`${part}-${k + 1}`).addEventListener("input", (event) => {
        state[part][k] = Number(event.target.value);
        changed(drawInstances);
      });
    });
  }
  for (const input of document.querySelectorAll("[data-slice]")) {
    input.addEventListener("input", () => {
      state.slice[input.dataset.slice] = Number(input.value);
      changed(drawInstances);
    });
  }
  for (const input of document.querySelectorAll("[data-show]")) {
    input.addEventListener("change", () => {
      state.show[input.checked ? "add" : "delete"](input.dataset.show);
      changed(drawInstances);
    });
  }
  find("reset").addEventListener("click", () => {
    for (const part of ["shape", "texture"]) state[part].fill(0);
    changed(drawInstances);
  });
  find("random").addEventListener("click", () => {
    const seed = find("seed");
    const drawn = normals(Number(seed.value), modes.shape + modes.texture).map((v) => Math.round(20 * clamp(v, -3, 3)) / 20);
    state.shape = drawn.slice(0, modes.shape);
    state.texture = drawn.slice(modes.shape);
    seed.value = Number(seed.value) + 1;
    changed(drawInstances);
  });
  window.addEventListener("hashchange", () => {
    readHash();
    changed(drawInstances, drawLocality);
  });

  readHash();
  fillControls();
  drawInstances();
  drawLocality();
  document.body.dataset.ready = "yes";
}

start();
