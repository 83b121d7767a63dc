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
  const names = [...svg.querySelectorAll("[data-group],[data-column],[data-node]")].map(drawn);
  let held = null;

  // "443", "tcp 443", "UDP": what is spoken on it.
  const speaks = (wanted) => {
    const text = wanted.trim().toUpperCase();
    if (!text) return () => true;
    const match = /^(TCP|UDP|SCTP|ICMP)?[\s/]*(\d+)?(?:[\s/]*(TCP|UDP|SCTP))?$/.exec(text);
    if (!match) return () => false;
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

  const show = (group) => {
    const words = find.value.trim().toLowerCase();
    const found = (g) => !words || name(g).toLowerCase().includes(words) || groups[g].members.some((m) => m.toLowerCase().includes(words));
    const matches = new Set(all.filter(found));
    const right = speaks(port.value);
    const has = (set, wanted) => [...set].some((g) => wanted.has(g));
    const wanted = group === null ? matches : new Set([group]);
    const partners = new Set(wanted);
    for (const a of arrows) {
      const lit = right(a.spoken) && (has(a.from, wanted) || has(a.to, wanted));
      a.node.classList.toggle("nl-dim", !lit);
      if (lit) for (const g of [...a.from, ...a.to]) partners.add(g);
    }
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
    held = held === group ? null : group;
    panel.replaceChildren();
    panel.hidden = held === null;
    show(held);
    if (held === null) return;
    const head = document.createElement("h2");
    head.textContent = name(held);
    const members = document.createElement("p");
    members.textContent = groups[held].members.join(", ");
    const right = speaks(port.value);
    const passing = (pairs) => pairs.filter(([, passes]) => passes >= 0 && right(kinds[passes].spoken));
    panel.append(head, members,
      list("reaches", passing(all.map((to) => [to, cell(held, to)]))),
      list("is reached by", passing(all.map((from) => [from, cell(from, held)]))));
  };

  for (const a of arrows) {
    const title = a.node.querySelector("title");
    if (title) a.node.addEventListener("pointerenter", () => { line.textContent = title.textContent; });
  }
  for (const n of names) {
    const group = Number(n.group);
    n.node.style.cursor = "pointer";
    n.node.addEventListener("pointerenter", () => { if (held === null) show(group); line.textContent = name(group) + ": " + groups[group].members.slice(0, 8).join(", "); });
    n.node.addEventListener("pointerleave", () => { if (held === null) show(null); });
    n.node.addEventListener("click", () => hold(group));
  }
  for (const input of [find, port]) input.addEventListener("input", () => show(held));
  document.addEventListener("keydown", (event) => { if (event.key === "Escape" && held !== null) hold(held); });
  document.getElementById("controls").hidden = false;
})();
