"use strict";
(() => {
  const bar = document.getElementById("bar");
  const all = document.getElementById("cards");
  if (!bar || !all) return;
  const cards = [...all.querySelectorAll(".card")].map((node) => ({
    node,
    text: node.dataset.text.toLowerCase(),
    methods: JSON.parse(node.dataset.methods),
    scores: JSON.parse(node.dataset.scores),
  }));
  const [find, byLabel, byMethod, sort, turn, count, noMatch] =
    ["find", "by-label", "by-method", "sort", "turn", "count", "no-match"].map((id) => document.getElementById(id));
  const inWords = new Intl.Collator(undefined, { numeric: true });

  const isShown = (card) => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const option = byLabel.selectedOptions[0];
    const hasLabel = option.dataset.none ? !card.node.dataset.label : !option.value || card.node.dataset.label === option.value;
    const hasMethod = !byMethod.value || card.methods.includes(byMethod.value);
    return hasLabel && hasMethod && words.every((word) => card.text.includes(word));
  };

  const valueOf = (card, key) => {
    if (key.startsWith("score:")) return (card.scores[byMethod.value] || {})[key.slice(6)];
    const text = card.node.dataset[key];
    if (key === "label" || key === "file") return text || undefined;
    return text === undefined ? undefined : Number(text);
  };

  // What has no value comes last in either order.
  const compare = (key, sign) => (one, other) => {
    const [a, b] = [valueOf(one, key), valueOf(other, key)];
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
    return sign * (typeof a === "string" ? inWords.compare(a, b) : a - b) || one.node.dataset.page - other.node.dataset.page;
  };

  const update = () => {
    const isTurned = turn.getAttribute("aria-pressed") === "true";
    turn.textContent = isTurned ? "descending" : "ascending";
    all.append(...[...cards].sort(compare(sort.value, isTurned ? -1 : 1)).map((card) => card.node));
    let number = 0;
    for (const card of cards) {
      card.node.hidden = !isShown(card);
      number += !card.node.hidden;
      for (const part of card.node.querySelectorAll("[data-method]")) {
        part.hidden = Boolean(byMethod.value) && part.dataset.method !== byMethod.value;
      }
    }
    count.textContent = `${number} of ${cards.length} shown`;
    noMatch.hidden = number > 0;
  };

  bar.addEventListener("submit", (event) => event.preventDefault());
  for (const kind of ["input", "change"]) bar.addEventListener(kind, update);
  bar.addEventListener("reset", () => {
    turn.setAttribute("aria-pressed", "false");
    setTimeout(update); // the fields are reset after this
  });
  turn.addEventListener("click", () => {
    turn.setAttribute("aria-pressed", String(turn.getAttribute("aria-pressed") !== "true"));
    update();
  });

  for (const { node } of cards) {
    const audio = node.querySelector("audio");
    if (!audio) continue;
    const spectrum = node.querySelector(".spectrum");
    const head = spectrum.querySelector(".head");
    let frame = 0;
    const follow = () => {
      head.style.left = `${(100 * audio.currentTime) / (audio.duration || 1)}%`;
      frame = audio.paused ? 0 : requestAnimationFrame(follow);
    };
    audio.addEventListener("play", () => {
      for (const other of document.querySelectorAll("audio")) if (other !== audio) other.pause();
      spectrum.classList.add("played");
      if (!frame) follow();
    });
    audio.addEventListener("seeked", follow);
    spectrum.addEventListener("click", (event) => {
      const box = spectrum.getBoundingClientRect();
      audio.currentTime = ((event.clientX - box.left) / box.width) * (audio.duration || 0);
      audio.play();
    });
  }

  bar.hidden = false;
  update();
})();
