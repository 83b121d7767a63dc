"use strict";
(() => {
  const { groups, kinds, cells } = JSON.parse(document.getElementById("data").textContent);
  const svg = document.querySelector("svg.nl");
  const line = document.getElementById("line");
  const panel = document.getElementById("panel");
  const find = document.getElementById("find");
  const port = document.getElementById("port");
  const size = groups.length;
  const cell = (from, to) => cells[from * size + to];
  const name = (group) => (groups[group].namespace === null ? "" : groups[group].namespace + "/") + groups[group].name;
  const all = groups.map((_, group) => group);
  const drawn = (node) => ({
    node,
    from: node.dataset.from !== undefined ? new Set(node.dataset.from.split(" ").map(Number)) : null,
    to: node.dataset.to !== undefined ? new Set(node.dataset.to.split(" ").map(Number)) : null,
    spoken: node.dataset.spoken !== undefined ? JSON.parse(node.dataset.spoken) : node.dataset.kind !== undefined ? kinds[Number(node.dataset.kind)].spoken : [],
    group: node.dataset.group ?? node.dataset.column ?? node.dataset.node ?? null,
  });
  const arrows = [...svg.querySelectorAll("[data-from]")].map(drawn);
  // What stands where an arrow ends belongs to all that end there.
  const entries = [...svg.querySelectorAll("[data-entry]")];
  const names = [...svg.querySelectorAll("[data-group],[data-column],[data-node]")].map(drawn);
  let held = null;

  // "443", "tcp 443", "UDP": what is spoken on it.
  const speaks = (wanted) => {
    const text = wanted.trim().toUpperCase();
    if (!text) return () => true;
    const match = /^(TCP|UDP|SCTP|ICMP)?[\s/]*(\d+)?(?:[\s/]*(TCP|UDP|SCTP))?$/.exec(text);
    if (!match || (match[1] && match[3])) return null;
    const proto = match[1] || match[3];
    const number = match[2] && Number(match[2]);
    return (spoken) => {
      if (proto === "ICMP") return spoken.some((s) => s.proto === "others");
      const protos = proto ? [proto] : ["TCP", "UDP", "SCTP"];
      return protos.some((p) => {
        const mine = spoken.filter((s) => s.proto === p);
        if (number === undefined) return mine.length > 0;
        if (mine.some((s) => Array.isArray(s.ports) && s.ports[0] <= number && number <= s.ports[1])) return true;
        // A number that is in no list belongs to the others.
        const listed = kinds.some((k) => k.spoken.some((s) => s.proto === p && Array.isArray(s.ports) && s.ports[0] <= number && number <= s.ports[1]));
        return !listed && mine.some((s) => s.ports === "others");
      });
    };
  };

  // A port that nobody could mean hides nothing.
  const chosen = () => {
    const right = speaks(port.value);
    port.setAttribute("aria-invalid", String(right === null));
    return right ?? (() => true);
  };

  const show = (group) => {
    const words = find.value.trim().toLowerCase();
    const found = (g) => !words || name(g).toLowerCase().includes(words) || groups[g].members.some((m) => m.toLowerCase().includes(words));
    const matches = new Set(all.filter(found));
    const right = chosen();
    const has = (set, wanted) => [...set].some((g) => wanted.has(g));
    const wanted = group === null ? matches : new Set([group]);
    const partners = new Set(wanted);
    const litNets = new Set();
    for (const a of arrows) {
      const lit = right(a.spoken) && (has(a.from, wanted) || has(a.to, wanted));
      a.node.classList.toggle("nl-dim", !lit);
      if (lit) for (const g of [...a.from, ...a.to]) partners.add(g);
      if (lit) litNets.add(a.node.dataset.net);
    }
    for (const e of entries) e.classList.toggle("nl-dim", !litNets.has(e.dataset.entry));
    for (const n of names) n.node.classList.toggle("nl-dim", !partners.has(Number(n.group)));
    for (const n of names) n.node.classList.toggle("nl-lit", group !== null && Number(n.group) === group);
  };

  const list = (title, pairs) => {
    const section = document.createElement("section");
    const head = document.createElement("h3");
    head.textContent = title;
    section.append(head);
    if (!pairs.length) section.append("nobody");
    const ul = document.createElement("ul");
    for (const [group, passes] of pairs) {
      const li = document.createElement("li");
      const who = document.createElement("b");
      who.textContent = name(group);
      li.append(who, " " + kinds[passes].name);
      ul.append(li);
    }
    section.append(ul);
    return section;
  };

  const hold = (group) => {
    held = group;
    panel.hidden = held === null;
    panel.replaceChildren();
    show(held);
    if (held === null) return;
    const close = document.createElement("button");
    close.textContent = "×";
    close.setAttribute("aria-label", "Close");
    close.addEventListener("click", () => hold(null));
    const head = document.createElement("h2");
    head.textContent = name(held);
    panel.append(close, head);
    if (!alone(held)) {
      const members = document.createElement("p");
      members.textContent = groups[held].members.join(", ");
      panel.append(members);
    }
    const right = chosen();
    const passing = (pairs) => pairs.filter(([, passes]) => passes >= 0 && right(kinds[passes].spoken));
    panel.append(
      list("reaches", passing(all.map((to) => [to, cell(held, to)]))),
      list("is reached by", passing(all.map((from) => [from, cell(from, held)]))));
  };
  const toggle = (group) => hold(held === group ? null : group);
  // A group of one is called what its member is called.
  const alone = (group) => groups[group].members.length === 1 && groups[group].members[0] === name(group);

  for (const a of arrows) {
    const title = a.node.querySelector("title");
    if (!title) continue;
    const tell = () => { line.textContent = title.textContent; };
    a.node.addEventListener("pointerenter", tell);
    if (a.node.dataset.net === undefined) continue;
    // A wire is too thin to be pointed at.
    const hit = document.createElementNS(svg.namespaceURI, "path");
    hit.setAttribute("d", a.node.getAttribute("d"));
    hit.setAttribute("class", "nl-hit");
    hit.append(title.cloneNode(true));
    hit.addEventListener("pointerenter", tell);
    a.node.before(hit);
  }
  for (const n of names) {
    const group = Number(n.group);
    const point = () => {
      if (held === null) show(group);
      const more = groups[group].members.length - 8;
      line.textContent = alone(group) ? name(group) : name(group) + ": " + groups[group].members.slice(0, 8).join(", ") + (more > 0 ? " and " + more + " more" : "");
    };
    const leave = () => { if (held === null) show(null); };
    n.node.style.cursor = "pointer";
    n.node.setAttribute("tabindex", "0");
    n.node.addEventListener("pointerenter", point);
    n.node.addEventListener("pointerleave", leave);
    n.node.addEventListener("focus", point);
    n.node.addEventListener("blur", leave);
    n.node.addEventListener("click", () => toggle(group));
    n.node.addEventListener("keydown", (event) => { if (event.key === "Enter") toggle(group); });
  }
  // What is held is told anew, for the port is asked there too.
  for (const input of [find, port]) input.addEventListener("input", () => hold(held));
  document.addEventListener("keydown", (event) => { if (event.key === "Escape" && held !== null) hold(null); });
  document.getElementById("controls").hidden = false;
})();
