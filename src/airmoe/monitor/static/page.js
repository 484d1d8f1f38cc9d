// Shows the looks that the server sends. All that nodes and clients say comes in as text, never as markup.

const byId = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const RADIUS = 178;
let chosen = null;
let latest = null;
let about = null;

function make(name, attributes = {}, text = null) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== null) element.textContent = text;
  return element;
}

function draw(name, attributes = {}, text = null) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== null) element.textContent = text;
  return element;
}

function rounded(value) {
  if (value === null || value === undefined) return "–";
  return value >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
}

const per = (value, unit) => (value === null ? "–" : `${rounded(value)} ${unit}`);
const share = (value) => (value === null ? "–" : `${rounded(100 * value)} %`);

function joules(value) {
  if (value === null) return "–";
  if (value === 0) return "0 J";
  for (const [scale, unit] of [[1, "J"], [1e-3, "mJ"], [1e-6, "µJ"]]) if (value >= scale) return `${rounded(value / scale)} ${unit}`;
  return `${rounded(value / 1e-9)} nJ`;
}

// What a link is like, in a word for its colour.
function pace(link) {
  if (link.rate_bps === null) return "unknown";
  if (link.rate_bps >= 1e8) return "fast";
  if (link.rate_bps >= 1e7) return "good";
  return link.rate_bps >= 1e6 ? "fair" : "slow";
}

function inWords(link) {
  const rate = link.rate_bps === null ? "rate not measured" : link.rate_bps >= 1e9 ? "1000 Mbit/s or more" : `${rounded(link.rate_bps / 1e6)} Mbit/s`;
  const latency = link.latency_s === null ? "" : `, ${rounded(link.latency_s * 1e3)} ms`;
  return `node ${link.source} asks node ${link.target}: ${rounded(link.requests_s)} requests/s, ${rate}${latency}`;
}

// Where nodes are: on a circle, those that only ask within it.
function places(look) {
  const experts = look.nodes.map((node) => node.node);
  const others = new Set([...look.clients, ...look.links.map((link) => link.source)]);
  for (const node of experts) others.delete(node);
  const found = new Map();
  const onCircle = (nodes, radius) => nodes.forEach((node, index) => {
    const angle = (2 * Math.PI * index) / nodes.length - Math.PI / 2;
    found.set(node, nodes.length === 1 && radius < RADIUS ? [0, 0] : [radius * Math.cos(angle), radius * Math.sin(angle)]);
  });
  onCircle(experts, RADIUS);
  onCircle([...others].sort((a, b) => a - b), RADIUS / 3);
  return found;
}

function drawLinks(look, place, size) {
  return look.links.filter((link) => place.has(link.source) && place.has(link.target) && link.source !== link.target).map((link) => {
    const [[x, y], [u, v]] = [place.get(link.source), place.get(link.target)];
    const [bendX, bendY] = [(x + u) * 0.35 - (v - y) * 0.08, (y + v) * 0.35 + (u - x) * 0.08]; // one way beside the other
    const length = Math.hypot(u - bendX, v - bendY) || 1;
    const [endX, endY] = [u - ((u - bendX) * (size + 5)) / length, v - ((v - bendY) * (size + 5)) / length];
    const isIdle = link.requests_s === 0;
    const isChosen = link.source === chosen || link.target === chosen;
    const path = draw("path", {
      d: `M${x} ${y}Q${bendX} ${bendY} ${endX} ${endY}`,
      class: `link ${pace(link)}${isIdle ? " idle" : ""}${isChosen ? " of-chosen" : ""}`,
      "stroke-width": isIdle ? 1.2 : Math.min(1.5 + 0.6 * Math.sqrt(link.requests_s), 8).toFixed(2),
    });
    path.append(draw("title", {}, inWords(link)));
    return path;
  });
}

function drawNodes(look, place, size) {
  const known = new Map(look.nodes.map((node) => [node.node, node]));
  return [...place].map(([number, [x, y]]) => {
    const node = known.get(number);
    const state = node ? node.state : "only-asks";
    const isClient = look.clients.includes(number);
    const group = draw("g", {
      class: `node ${state}${isClient ? " client" : ""}${answered.has(number) ? " answered" : ""}`,
      transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`, tabindex: "0", role: "button", "data-node": number,
      "aria-pressed": String(number === chosen),
    });
    const held = node?.classes?.length ? `; holds ${heldBy(node)}` : "";
    const title = `node ${number}: ${node ? state + (node.why ? `, ${node.why}` : "") : "only asks"}${isClient ? "; a client is here" : ""}${held}`;
    group.append(draw("circle", { r: size }), draw("text", { "text-anchor": "middle" }, String(number)), draw("title", {}, title));
    if (look.nodes.length <= 16 && held) {
      const out = (size + 12) / Math.hypot(x, y);
      const anchor = Math.abs(x) < 20 ? "middle" : x > 0 ? "start" : "end";
      group.append(draw("text", { x: x * out, y: y * out, class: "held", "text-anchor": anchor }, shortened(heldBy(node), 14)));
    }
    return group;
  });
}

const shortened = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

function heldBy(node) {
  if (node.classes === null) return "–";
  const more = node.classes_held - node.classes.length;
  return node.classes.join(", ") + (more > 0 ? ` and ${more} more` : "") || "none";
}

function showTopology(look) {
  const place = places(look);
  const size = look.nodes.length > 20 ? 13 : 18;
  const topology = byId("topology");
  const focused = document.activeElement?.getAttribute?.("data-node");
  topology.classList.toggle("chosen", chosen !== null);
  topology.replaceChildren(...drawLinks(look, place, size), ...drawNodes(look, place, size));
  if (focused !== null && focused !== undefined) topology.querySelector(`[data-node="${Number(focused)}"]`)?.focus();
  const left = [];
  if (look.links_left_out) left.push(`${look.links_left_out} links are not drawn, those with fewest requests.`);
  if (look.unplaced_s) left.push(`${rounded(look.unplaced_s)} requests/s are of clients whose node is not known.`);
  byId("left-out").textContent = left.join(" ");
}

function choose(number) {
  chosen = chosen === number ? null : number;
  if (latest) show(latest);
}

const topology = byId("topology");
topology.addEventListener("click", (event) => {
  const node = event.target.closest(".node");
  if (node) choose(Number(node.dataset.node));
});
topology.addEventListener("keydown", (event) => {
  const node = event.target.closest(".node");
  if (node && (event.key === "Enter" || event.key === " ")) {
    event.preventDefault();
    choose(Number(node.dataset.node));
  }
});

function showNodes(look) {
  byId("nodes").replaceChildren(...look.nodes.map((node) => {
    const row = make("tr", node.node === chosen ? { class: "chosen" } : {});
    const until = node.certificate_ends_s === null ? "–" : new Date(node.certificate_ends_s * 1e3).toLocaleDateString();
    const cells = [
      ["node", node.node], ["", node.why ? `${node.state}: ${node.why}` : node.state], ["experts", node.experts],
      ["classes", heldBy(node)], ["requests/s", rounded(node.requests_s)], ["images/s", rounded(node.items_s)],
      ["busy", share(node.busy)], ["waiting", node.waiting ?? "–"], ["refused/s", rounded(node.refused_s)], ["certificate until", until],
    ];
    row.append(...cells.map(([label, text]) => make("td", { "data-label": label }, String(text))));
    row.children[1].className = `state ${node.state}`;
    return row;
  }));
}

function showCards(look) {
  const now = look.history.at(-1);
  byId("requests").textContent = per(now.requests_s, "/s");
  byId("energy").textContent = joules(now.energy_j);
  byId("elapsed").textContent = now.elapsed_s === null ? "–" : per(now.elapsed_s * 1e3, "ms");
  byId("degraded").textContent = share(now.degraded);
  ["requests_s", "energy_j", "elapsed_s", "degraded"].forEach((name, index) => {
    const values = look.history.map((totals) => totals[name]);
    const most = Math.max(...values, name === "degraded" ? 1 : 0) || 1;
    let path = "";
    values.forEach((value, at) => {
      if (value === null) return;
      const begins = at === 0 || values[at - 1] === null;
      path += `${begins ? "M" : "L"}${120 - values.length + at} ${(22 - (20 * value) / most).toFixed(1)}`;
      if (begins && (values[at + 1] ?? null) === null) path += "h0.8";
    });
    document.querySelectorAll(".spark")[index].replaceChildren(draw("path", { d: path }));
  });
}

function showEvents(look) {
  byId("events").replaceChildren(...look.events.map((event) => {
    const row = make("li", { class: event.level });
    row.append(make("time", {}, new Date(event.at_s * 1e3).toLocaleTimeString(undefined, { hourCycle: "h23" })), make("span", {}, event.what));
    return row;
  }));
}

function show(look) {
  latest = look;
  const well = look.nodes.filter((node) => node.state === "well").length;
  byId("alive").textContent = `${well} of ${look.nodes.length} nodes are well`;
  byId("alive").className = well === look.nodes.length ? "good" : "bad";
  showCards(look);
  showTopology(look);
  showNodes(look);
  showEvents(look);
}

// Asking about an image.

const answered = new Set();

function tellAnswer(told, picture) {
  const list = make("ol");
  for (const [label, probability] of told.probabilities) {
    const row = make("li");
    row.append(make("span", {}, label), make("span", {}, `${(100 * probability).toFixed(1)} %`), make("meter", { value: probability, min: 0, max: 1 }));
    list.append(row);
  }
  const who = told.answered_by.map((each) => `expert ${each.expert} at node ${each.node}${each.here ? " (here)" : ""}`).join(", ");
  const degraded = told.degraded ? ` Degraded: expert ${told.missed.join(", ")} did not answer.` : "";
  const price = `${joules(told.energy_j)}, ${told.bytes} bytes, ${rounded(told.elapsed_s * 1e3)} ms`;
  byId("answer").replaceChildren(
    picture, list,
    make("p", {}, `Answered by ${who || "nobody"}.${told.chose_none ? " The policy chose no expert." : ""}${degraded}`),
    make("p", {}, `${price}. Decided by ${told.decided_by}${told.scheduler === null ? "" : ` at node ${told.scheduler}`}.`),
  );
  answered.clear();
  for (const each of told.answered_by) answered.add(each.node);
  if (latest) showTopology(latest);
  setTimeout(() => answered.clear(), 8000);
}

async function ask(file) {
  const picture = make("img", { alt: "the image that was asked about", src: URL.createObjectURL(file) });
  picture.addEventListener("load", () => URL.revokeObjectURL(picture.src));
  byId("answer").replaceChildren(picture, make("p", {}, "asking …"));
  try {
    const reply = await fetch(`/ask?policy=${encodeURIComponent(byId("policy").value)}`, { method: "POST", body: file });
    const told = reply.headers.get("content-type")?.startsWith("application/json") ? await reply.json() : { error: await reply.text() };
    if (told.error) byId("answer").replaceChildren(picture, make("p", { class: "bad" }, told.error));
    else tellAnswer(told, picture);
  } catch (error) {
    byId("answer").replaceChildren(picture, make("p", { class: "bad" }, `no answer: ${error.message}`));
  }
}

byId("file").addEventListener("change", (event) => {
  if (event.target.files.length) ask(event.target.files[0]);
  event.target.value = "";
});
const drop = byId("drop");
for (const name of ["dragenter", "dragover"]) drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  if (event.dataTransfer.files.length) ask(event.dataTransfer.files[0]);
});

// The looks.

const OLD_MS = 20000;
const looks = new EventSource("/looks");
let cameAt = performance.now();
let isFull = false;

function tellLost(text) {
  byId("lost").textContent = text;
  byId("lost").hidden = false;
}

looks.addEventListener("message", (event) => {
  byId("lost").hidden = true;
  isFull = false;
  cameAt = performance.now();
  show(JSON.parse(event.data));
});
looks.addEventListener("full", (event) => {
  isFull = true;
  tellLost(`${event.data} browsers watch already: trying again until one leaves.`);
});
looks.addEventListener("error", () => {
  if (!isFull) tellLost("No connection: what is shown is old. If airmoe monitor was started anew, open the address that it printed.");
});
setInterval(() => {
  if (performance.now() - cameAt > OLD_MS && byId("lost").hidden) tellLost("No news of the mesh: what is shown is old. The log of airmoe monitor may say why.");
}, 5000);

about = await (await fetch("/about")).json();
byId("mesh").textContent = about.mesh;
document.title = `airmoe: mesh ${about.mesh}`;
byId("secured").textContent = `model ${about.model}; seen from node ${about.node}; ${about.secured}`;
byId("policy").placeholder = about.policy;
byId("ask").hidden = !about.asks;
byId("version").textContent = `airmoe ${about.version}`;
