"use strict";
// The viewer of the report: slider, blink, pair and difference between any two variants, and the theme.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const stage = at("stage");
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
  const state = { prompt: 0, seed: 0, a: 0, b: 1, full: {} };
  const BLINK_MS = 700; // below three changes a second, which nobody's eyes mind
  let timer = null;

  // Where all of a picture is: in the cell itself, or in the file that the cell links to.
  const whole = (shown) => (shown.closest("a") || {}).href || shown.src;
  const picture = (variant) => at(`p${state.prompt}-${state.seed}-${variant}`);

  function show() {
    for (const side of ["a", "b"]) {
      const shown = picture(state[side]);
      at(`stage-${side}`).src = whole(shown);
      at(`stage-${side}`).alt = shown.alt;
      at(`badge-${side}`).textContent = data.variants[state[side]];
      at(`choose-${side}`).value = String(state[side]);
    }
    const [width, height] = data.size;
    stage.classList.toggle("small", width <= 128);
    at("viewer").style.setProperty("--ratio", `${width} / ${height}`);
    at("where").textContent = `“${data.prompts[state.prompt]}”, seed ${data.seeds[state.seed]}`;
    mark();
    heat();
    say();
  }

  function mark() {
    const here = (one) => Number(one.dataset.prompt) === state.prompt && Number(one.dataset.seed) === state.seed;
    document.querySelectorAll(".seed").forEach((one) => one.setAttribute("aria-current", String(here(one))));
    document.querySelectorAll(".pictures img").forEach((one) => {
      const variant = Number(one.id.split("-")[2]);
      one.classList.toggle("on", here(one) && one.id[0] === "p" && (variant === state.a || variant === state.b));
    });
  }

  // Pictures in files are no script's to read: a filter draws their difference, and its mean stands in the page.
  function measured() {
    const place = (variant) => at(`h${state.prompt}-${state.seed}-${variant}`);
    const heat = state.a === 0 ? place(state.b) : state.b === 0 ? place(state.a) : null;
    at("heat-says").textContent = heat ? `mean ${heat.dataset.mean} %` : state.a === state.b ? "mean 0.0 %" : "";
  }

  async function heat() {
    if (data.large) return measured();
    const [width, height] = data.size;
    const both = [state.a, state.b].map((variant) => Object.assign(new Image(), { src: picture(variant).src }));
    const asked = JSON.stringify(state);
    await Promise.all(both.map((one) => one.decode()));
    if (asked !== JSON.stringify(state)) return;
    const canvas = at("stage-heat");
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    const [first, second] = both.map((one) => {
      context.drawImage(one, 0, 0);
      return context.getImageData(0, 0, width, height).data;
    });
    const out = context.createImageData(width, height);
    let total = 0;
    for (let i = 0; i < first.length; i += 4) {
      let apart = 0;
      for (let c = 0; c < 3; c++) apart += Math.abs(first[i + c] - second[i + c]) / 765;
      total += apart;
      const level = 3 * Math.round(255 * Math.sqrt(apart));
      for (let c = 0; c < 3; c++) out.data[i + c] = data.heat[level + c];
      out.data[i + 3] = 255;
    }
    context.putImageData(out, 0, 0);
    const mean = `mean ${((400 * total) / first.length).toFixed(1)} %`;
    at("heat-says").textContent = mean;
    canvas.setAttribute("aria-label", `Where ${data.variants[state.a]} and ${data.variants[state.b]} differ: ${mean}`);
  }

  function say() {
    at("blink-says").textContent = `shown: ${data.variants[state[stage.dataset.shown]]}`;
  }

  function divide(percent) {
    const value = Math.max(0, Math.min(100, Math.round(percent)));
    at("divider").value = String(value);
    at("divider").setAttribute("aria-valuetext", `${data.variants[state.a]} ${value} %, ${data.variants[state.b]} the rest`);
    stage.style.setProperty("--at", `${value}%`);
  }

  function flip() {
    stage.dataset.shown = stage.dataset.shown === "a" ? "b" : "a";
    say();
  }

  function blinking(on) {
    clearInterval(timer);
    timer = on ? setInterval(flip, BLINK_MS) : null;
    at("blink").textContent = on ? "Pause" : calm.matches ? "Show the other" : "Blink";
  }

  function mode(name) {
    stage.dataset.mode = name;
    document.querySelector(`input[name=mode][value=${name}]`).checked = true;
    stage.dataset.shown = "a";
    blinking(name === "blink" && !calm.matches);
    say();
  }

  function go(prompt, seed) {
    state.prompt = prompt;
    state.seed = seed;
    show();
  }

  function full(prompt, seed, variant) {
    Object.assign(state.full, { prompt, seed, variant });
    const shown = at(`p${prompt}-${seed}-${variant}`);
    at("full-picture").src = at("full-file").href = whole(shown);
    at("full-picture").alt = shown.alt;
    at("full-says").textContent = `“${data.prompts[prompt]}”, seed ${data.seeds[seed]}, ${data.variants[variant]}`;
    if (!at("full").open) at("full").showModal();
  }

  function turn(key) {
    const { prompt, seed, variant } = state.full;
    const [seeds, variants] = [data.seeds.length, data.variants.length];
    const places = {
      ArrowLeft: [seed + seeds - 1, variant], ArrowRight: [seed + 1, variant],
      ArrowUp: [seed, variant + variants - 1], ArrowDown: [seed, variant + 1],
    };
    if (places[key]) full(prompt, places[key][0] % seeds, places[key][1] % variants);
    return key in places;
  }

  function enlarge() {
    const [place, opener] = [at("viewer-place"), document.activeElement];
    place.style.minHeight = `${place.offsetHeight}px`; // or the page would move
    at("enlarged").append(at("viewer"));
    at("enlarged").showModal();
    at("enlarged").addEventListener("close", () => {
      place.append(at("viewer"));
      place.style.minHeight = "";
      opener.focus({ preventScroll: true });
    }, { once: true });
  }

  function clicked(event) {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    const shown = event.currentTarget.querySelector("img");
    const [prompt, seed, variant] = shown.id.slice(1).split("-").map(Number);
    if (shown.id[0] === "p") return full(prompt, seed, variant);
    Object.assign(state, { a: 0, b: variant });
    mode("difference");
    go(prompt, seed);
    enlarge();
  }

  function step(by) {
    const count = data.prompts.length * data.seeds.length;
    const next = (state.prompt * data.seeds.length + state.seed + by + count) % count;
    go(Math.floor(next / data.seeds.length), next % data.seeds.length);
  }

  function swap() {
    [state.a, state.b] = [state.b, state.a];
    show();
    divide(Number(at("divider").value));
  }

  const dark = () => {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : window.matchMedia("(prefers-color-scheme: dark)").matches;
  };

  function theme(change) {
    if (change) document.documentElement.dataset.theme = dark() ? "light" : "dark";
    at("theme").textContent = dark() ? "Light" : "Dark";
    at("theme").setAttribute("aria-label", dark() ? "Change to light colours" : "Change to dark colours");
  }

  function pressed(event) {
    if (data.large && at("full").open) {
      if (turn(event.key)) event.preventDefault();
      return;
    }
    const typing = event.target.closest("select, textarea, input:not([type=range]):not([type=radio]):not([type=checkbox])");
    if (!at("keys").checked || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const keys = {
      j: () => step(1), k: () => step(-1), x: swap, t: () => theme(true),
      p: () => mode("pair"), d: () => mode("difference"),
      s: () => { mode("slider"); at("divider").focus(); },
      b: () => { mode("blink"); at("blink").focus(); },
    };
    const act = keys[event.key.toLowerCase()];
    if (!act) return;
    event.preventDefault();
    act();
  }

  function drag(event) {
    if (stage.dataset.mode !== "slider" || !(event.buttons & 1)) return;
    const box = stage.getBoundingClientRect();
    divide((100 * (event.clientX - box.left)) / box.width);
  }

  document.documentElement.classList.add("scripted");
  at("divider").addEventListener("input", (event) => divide(Number(event.target.value)));
  for (const kind of ["pointerdown", "pointermove"]) stage.addEventListener(kind, drag);
  stage.addEventListener("dragstart", (event) => event.preventDefault());
  document.querySelectorAll("input[name=mode]").forEach((one) => one.addEventListener("change", () => mode(one.value)));
  for (const side of ["a", "b"]) {
    at(`choose-${side}`).addEventListener("change", (event) => { state[side] = Number(event.target.value); show(); });
  }
  at("heats").addEventListener("change", (event) => at("grids").classList.toggle("no-heats", !event.target.checked));
  at("swap").addEventListener("click", swap);
  at("blink").addEventListener("click", () => (calm.matches ? flip() : blinking(timer === null)));
  at("previous").addEventListener("click", () => step(-1));
  at("next").addEventListener("click", () => step(1));
  at("theme").addEventListener("click", () => theme(true));
  document.querySelectorAll(data.large ? ".seed" : ".seed, .pictures img").forEach((one) => one.addEventListener("click", () => {
    go(Number(one.dataset.prompt), Number(one.dataset.seed));
    const box = at("viewer").getBoundingClientRect();
    if (box.bottom >= 80 && box.top <= window.innerHeight - 80) return;
    if (data.large) enlarge();
    else at("viewer").scrollIntoView({ block: "start" });
  }));
  if (data.large) {
    document.querySelectorAll(".open").forEach((one) => one.addEventListener("click", clicked));
    document.querySelectorAll(".close").forEach((one) => one.addEventListener("click", () => one.closest("dialog").close()));
    document.querySelectorAll("[data-key]").forEach((one) => one.addEventListener("click", () => turn(one.dataset.key)));
    at("full").addEventListener("close", () => go(state.full.prompt, state.full.seed));
    at("enlarge").addEventListener("click", enlarge);
  }
  document.addEventListener("keydown", pressed);
  const shades = Array.from({ length: 12 }, (_, i) => `rgb(${data.heat.slice(3 * Math.round(i * 23.18), 3 * Math.round(i * 23.18) + 3)})`);
  document.querySelector(".scale").style.background = `linear-gradient(90deg, ${shades})`;
  show();
  divide(50);
  mode("slider");
  theme(false);
})();
