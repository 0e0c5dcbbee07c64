"use strict";
document.documentElement.classList.add("js");
// one part of the day at a time
document.querySelectorAll(".maps").forEach((section, number) => {
  const panels = [...section.querySelectorAll(".panel")];
  if (panels.length === 0) return;
  const show = (period) => panels.forEach((p) => p.classList.toggle("on", p.dataset.period === period));
  const box = document.createElement("fieldset");
  box.className = "tabs";
  const legend = document.createElement("legend");
  legend.textContent = "Time of day";
  box.append(legend);
  for (const panel of panels) {
    const label = document.createElement("label");
    const input = document.createElement("input");
    input.type = "radio";
    input.name = "period-" + number;
    input.checked = panel.dataset.period === section.dataset.first;
    input.addEventListener("change", () => show(panel.dataset.period));
    label.append(input, panel.dataset.label);
    box.append(label);
  }
  panels[0].before(box);
  show(section.dataset.first);
});
// zoom: all maps of a scenario together
document.querySelectorAll("article").forEach((article) => {
  const maps = [...article.querySelectorAll("svg.map")];
  if (maps.length === 0) return;
  const home = maps[0].viewBox.baseVal;
  const first = [home.x, home.y, home.width, home.height];
  let view = first.slice();
  const nice = (metres) => {
    const power = 10 ** Math.floor(Math.log10(metres));
    return [5, 2, 1].find((step) => step * power <= metres) * power;
  };
  const apply = () => {
    const zoom = view[2] / first[2];
    for (const map of maps) {
      map.setAttribute("viewBox", view.join(" "));
      map.style.setProperty("--k", String(zoom ** 0.7));
      const frame = map.querySelector(".frame");
      frame.setAttribute("transform", `translate(${view[0]} ${view[1]}) scale(${zoom})`);
      const bar = frame.querySelector(".bar");
      if (!bar) continue;
      const metres = Number(map.dataset.metres) * zoom;
      const length = nice(metres * first[2] / 5);
      bar.setAttribute("d", bar.getAttribute("d").replace(/h[\d.]+/, "h" + length / metres));
      frame.querySelector(".length").textContent = length >= 1000 ? length / 1000 + " km" : length + " m";
    }
  };
  const scale = (factor, x = 0.5, y = 0.5) => {
    const width = Math.min(Math.max(view[2] * factor, first[2] / 40), first[2] * 40);
    const real = width / view[2];
    view = [view[0] + view[2] * (1 - real) * x, view[1] + view[3] * (1 - real) * y, width, view[3] * real];
    apply();
  };
  const whole = (map) => {
    const [x, y, w, h] = map.dataset.whole.split(" ").map(Number);
    const factor = 1.05 * Math.max(w / first[2], h / first[3]);
    const size = [first[2] * factor, first[3] * factor];
    view = [x + w / 2 - size[0] / 2, y + h / 2 - size[1] / 2, ...size];
    apply();
  };
  for (const map of maps) {
    const bar = document.createElement("div");
    bar.className = "zoom";
    const add = (text, title, act) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = text;
      button.setAttribute("aria-label", title);
      button.addEventListener("click", act);
      bar.append(button);
    };
    add("+", "Zoom in", () => scale(1 / 1.5));
    add("−", "Zoom out", () => scale(1.5));
    add("Changes", "Show where something changes", () => { view = first.slice(); apply(); });
    add("Whole network", "Show the whole network", () => whole(map));
    map.before(bar);
    map.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      const r = map.getBoundingClientRect();
      scale(event.deltaY > 0 ? 1.15 : 1 / 1.15, (event.clientX - r.left) / r.width, (event.clientY - r.top) / r.height);
    }, { passive: false });
    let from = null;
    map.addEventListener("pointerdown", (event) => { from = [event.clientX, event.clientY]; map.setPointerCapture(event.pointerId); });
    map.addEventListener("pointermove", (event) => {
      if (!from) return;
      const unit = view[2] / map.getBoundingClientRect().width;
      view[0] -= (event.clientX - from[0]) * unit;
      view[1] -= (event.clientY - from[1]) * unit;
      from = [event.clientX, event.clientY];
      apply();
    });
    for (const name of ["pointerup", "pointercancel"]) map.addEventListener(name, () => { from = null; });
  }
});
