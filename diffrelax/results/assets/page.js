"use strict";

const MANY = 12; // rows, from which on a table has a filter
const UNITS = 10000; // of positions, in Å
const AROMATIC = 4; // as 3Dmol.js has it
const COLOURS = ["#8b949e", "#58a6e0", "#2b9a66", "#d9822b", "#9b6bd0", "#1aa5a5", "#d765a8", "#8ab61e"];

function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// how a geometry is written for a program: its atoms, charge and multiplicity, and a title
const PROGRAMS = {
  "XYZ": (atoms, state, title) => `${atoms.length}\n${title}\n${atoms.join("\n")}`,
  "ORCA": (atoms, state) => `* xyz ${state}\n${atoms.join("\n")}\n*`,
  "Gaussian": (atoms, state, title) => `${title}\n\n${state}\n${atoms.join("\n")}\n`,
};

// ---- tables ----

class SortedTable {
  constructor(table) {
    this.body = table.tBodies[0];
    this.most = this.body.rows.length; // to be shown; the others wait in a template
    const waiting = table.parentElement.querySelector("template");
    const others = waiting ? waiting.content.querySelectorAll("tr") : [];
    this.original = this.rows = [...this.body.rows, ...others];
    this.heads = Array.from(table.tHead.rows[0].cells);
    this.heads.forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => this.sort(head, column));
    });
    if (this.rows.length > MANY) this.addTools(table.closest(".beside"));
    this.show();
  }

  addTools(before) {
    this.filter = make("input", { type: "search", placeholder: "show only rows with …" });
    this.filter.setAttribute("aria-label", "show only rows with this text");
    this.filter.addEventListener("input", () => this.show());
    this.count = make("span");
    this.more = make("button", { type: "button", textContent: "show all" });
    this.more.addEventListener("click", () => { this.most = Infinity; this.show(); });
    before.before(make("div", { className: "tools" }, this.filter, this.count, this.more));
  }

  sort(head, column) {
    const next = { none: "ascending", ascending: "descending", descending: "none" };
    const order = next[head.getAttribute("aria-sort") || "none"];
    for (const other of this.heads) other.removeAttribute("aria-sort");
    if (order !== "none") head.setAttribute("aria-sort", order);
    this.rows = order === "none" ? this.original : this.sorted(column, order === "ascending");
    this.show();
  }

  sorted(column, ascending) {
    const isNumber = this.heads[column].classList.contains("number");
    const collator = new Intl.Collator(undefined, { numeric: true });
    const keyed = this.original.map((row) => {
      const text = row.cells[column].textContent.replace("−", "-");
      const unknown = text === "" || text === "–";
      return { row, unknown, key: isNumber ? parseFloat(text) : text };
    });
    const compare = isNumber ? (a, b) => a - b : collator.compare;
    const sign = ascending ? 1 : -1;
    keyed.sort((a, b) => a.unknown - b.unknown || (a.unknown ? 0 : sign * compare(a.key, b.key)));
    return keyed.map((entry) => entry.row);
  }

  show() {
    const wanted = this.filter ? this.filter.value.trim().toLowerCase() : "";
    const matches = (row) => row.textContent.toLowerCase().includes(wanted);
    const found = wanted ? this.rows.filter(matches) : this.rows;
    const shown = found.slice(0, this.most);
    this.body.replaceChildren(...shown);
    if (!this.filter) return;
    this.count.textContent = `${count(shown)} of ${count(found)} rows`;
    this.more.hidden = shown.length === found.length;
  }
}

function count(things) {
  return things.length.toLocaleString("en");
}

// ---- molecules ----

class Molecules {
  constructor(aside) {
    this.views = JSON.parse(document.getElementById("views").textContent);
    this.place = Object.fromEntries(
      ["shown", "smiles", "status", "chart", "canvas", "frames", "coordinates"].map((id) => [id, document.getElementById(id)]),
    );
    this.program = this.place.coordinates.querySelector("select");
    this.program.append(...Object.keys(PROGRAMS).map((textContent) => make("option", { textContent })));
    this.program.addEventListener("change", () => this.write());
    const note = this.place.canvas.firstElementChild;
    try {
      this.viewer = $3Dmol.createViewer(this.place.canvas, { backgroundAlpha: 0, antialias: true });
      this.viewer.setViewStyle({ style: "outline", color: "#57606a", width: 0.03 });
      note.remove();
    } catch (error) {
      this.viewer = null; // the note stays
    }
    const body = aside.parentElement.querySelector("tbody");
    body.addEventListener("click", (event) => this.choose(event.target.closest("tr")));
    body.addEventListener("keydown", (event) => this.step(event));
    this.choose(body.querySelector("tr[data-view]"));
  }

  step(event) {
    const row = event.target.closest("tr");
    const way = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    let next = event.key === "Enter" ? row : way && row[way];
    while (next && !next.dataset.view) next = next[way];
    if (!next) return;
    event.preventDefault();
    next.focus();
    this.choose(next);
  }

  choose(row) {
    if (!row || !row.dataset.view) return;
    if (this.row) this.row.classList.remove("shown");
    this.row = row;
    row.classList.add("shown");
    const view = this.views[row.dataset.view];
    const anew = view !== this.view;
    this.view = view;
    this.place.shown.textContent = view.name;
    this.place.smiles.textContent = view.smiles === view.name ? "" : view.smiles;
    this.place.status.textContent = view.lines.join("\n");
    this.place.chart.innerHTML = view.chart;
    const labels = view.frames.map((frame) => frame.label);
    const wanted = row.dataset.frames ? JSON.parse(row.dataset.frames) : [labels[0], labels.at(-1)];
    this.visible = labels.map((label) => wanted.includes(label));
    if (anew) this.load();
    this.draw();
  }

  load() {
    const button = (frame, i) => {
      const apart = frame.apart === null ? "" : ` (${frame.apart.toFixed(2)} Å, ${frame.moved})`;
      const one = make("button", { type: "button", textContent: frame.label + apart });
      one.style.setProperty("--colour", colourOf(i));
      one.addEventListener("click", () => { this.visible[i] = !this.visible[i]; this.draw(); });
      return one;
    };
    this.buttons = this.view.frames.map(button);
    const all = make("button", { type: "button", textContent: "all" });
    all.addEventListener("click", () => {
      this.visible.fill(!this.visible.every(Boolean));
      this.draw();
    });
    this.place.frames.replaceChildren(...this.buttons, ...(this.buttons.length > 2 ? [all] : []));
    if (!this.viewer) return;
    this.viewer.removeAllModels();
    this.models = this.view.frames.map((frame) => {
      const model = this.viewer.addModel();
      model.addAtoms(atomsOf({ ...this.view, ...frame }));
      return model;
    });
    this.viewer.zoomTo();
  }

  draw() {
    this.buttons.forEach((button, i) => button.setAttribute("aria-pressed", this.visible[i]));
    this.write();
    if (!this.viewer) return;
    const last = this.visible.lastIndexOf(true);
    const alone = this.visible.indexOf(true) === last;
    this.models.forEach((model, i) => {
      const style = alone ? ballsOf(i) : tubesOf(i, i === last);
      model.setStyle({}, this.visible[i] ? style : {});
    });
    this.viewer.render();
  }

  write() {
    const frame = { ...this.view, ...this.view.frames[Math.max(this.visible.lastIndexOf(true), 0)] };
    const shown = ({ elem, x, y, z }) => elem.padEnd(2) + [x, y, z].map((r) => r.toFixed(4).padStart(11)).join("");
    const title = `${frame.name}, ${frame.label}`;
    const text = PROGRAMS[this.program.value](atomsOf(frame).map(shown), frame.state, title);
    this.place.coordinates.querySelector("summary").textContent = `Coordinates: ${frame.label}`;
    this.place.coordinates.querySelector("pre").textContent = text;
  }
}

function colourOf(i) {
  return COLOURS[i % COLOURS.length];
}

function atomsOf(frame) {
  const atoms = frame.symbols.split(" ").map((elem, i) => {
    const [x, y, z] = frame.positions.slice(3 * i, 3 * i + 3).map((length) => length / UNITS);
    return { elem, x, y, z, bonds: [], bondOrder: [] };
  });
  for (const [i, j, order] of frame.bonds) {
    for (const [from, to] of [[i, j], [j, i]]) {
      atoms[from].bonds.push(to);
      atoms[from].bondOrder.push(order === 1.5 ? AROMATIC : order);
    }
  }
  return atoms;
}

function colorschemeOf(i) {
  return { prop: "elem", map: { ...$3Dmol.elementColors.Jmol, H: 0xf0f2f4, C: colourOf(i) } };
}

function ballsOf(i) {
  const colorscheme = colorschemeOf(i);
  return {
    stick: { radius: 0.13, aromaticStyle: "circle", colorscheme },
    sphere: { scale: 0.22, colorscheme },
  };
}

// the last is thicker, and hides the others where they lie on it
function tubesOf(i, isLast) {
  const radius = isLast ? 0.1 : 0.07;
  return { stick: { radius, singleBonds: true, aromaticStyle: "circle", colorscheme: colorschemeOf(i) } };
}

for (const table of document.querySelectorAll("table")) new SortedTable(table);
const aside = document.getElementById("viewer");
if (aside) new Molecules(aside);
