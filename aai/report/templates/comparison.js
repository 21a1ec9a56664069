"use strict";
(() => {
  const bar = document.getElementById("bar");
  const all = document.getElementById("cards");
  const cards = [...all.querySelectorAll(".card")].map((node) => ({
    node,
    text: node.dataset.text.toLowerCase(),
    values: JSON.parse(node.dataset.values),
  }));
  const [find, byLabel, metric, method, minus, turn, count, noMatch] =
    ["find", "by-label", "metric", "method", "minus", "turn", "count", "no-match"].map((id) => document.getElementById(id));

  const isShown = (card) => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const hasLabel = !byLabel.value || card.node.dataset.label === byLabel.value;
    return hasLabel && words.every((word) => card.text.includes(word));
  };

  // Of one method, or its difference from another; undefined where one of them is missing.
  const valueOf = (card) => {
    const own = (card.values[method.value] || {})[metric.value];
    if (!minus.value || own === undefined) return own;
    const other = (card.values[minus.value] || {})[metric.value];
    return other === undefined ? undefined : own - other;
  };

  // What has no value comes last in either order.
  const compare = (sign) => (one, other) => {
    const [a, b] = metric.value ? [valueOf(one), valueOf(other)] : [undefined, undefined];
    if (a !== b && (a === undefined || b === undefined)) return (a === undefined) - (b === undefined);
    return (a === undefined ? 0 : sign * (a - b)) || one.node.dataset.page - other.node.dataset.page;
  };

  const update = () => {
    const isTurned = turn.getAttribute("aria-pressed") === "true";
    turn.textContent = isTurned ? "descending" : "ascending";
    all.append(...[...cards].sort(compare(isTurned ? -1 : 1)).map((card) => card.node));
    let number = 0;
    for (const card of cards) {
      card.node.hidden = !isShown(card);
      number += !card.node.hidden;
      const value = metric.value ? valueOf(card) : undefined;
      const name = minus.value ? `${method.value} minus ${minus.value}` : method.value;
      card.node.querySelector(".difference").textContent = value === undefined ? "" : `${name}: ${value.toFixed(3)}`;
    }
    count.textContent = `${number} of ${cards.length} shown`;
    noMatch.hidden = number > 0;
  };

  bar.addEventListener("submit", (event) => event.preventDefault());
  for (const kind of ["input", "change"]) bar.addEventListener(kind, update);
  turn.addEventListener("click", () => {
    turn.setAttribute("aria-pressed", String(turn.getAttribute("aria-pressed") !== "true"));
    update();
  });
  for (const sound of document.querySelectorAll("audio")) {
    sound.addEventListener("play", () => {
      for (const other of document.querySelectorAll("audio")) if (other !== sound) other.pause();
    });
  }
  bar.hidden = false;
  update();
})();
