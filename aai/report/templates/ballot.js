"use strict";
// Votes are kept in the browser's storage as they are cast, so that a closed page goes on where it was.
const ballot = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const key = (voter) => `aai-ballot-${ballot.id}-${voter}`;
let voter = "", votes = [], shownAt = 0;

function stored(name) {
  try { return JSON.parse(localStorage.getItem(key(name))) || []; } catch { return []; }
}

function keep() {
  try { localStorage.setItem(key(voter), JSON.stringify(votes)); } catch { /* without storage the file is all there is */ }
}

// The order is the voter's own, and the same whenever they come back.
function order(name) {
  let state = [...`${ballot.id}${name}`].reduce((hash, letter) => Math.imul(hash ^ letter.codePointAt(0), 16777619), 2166136261);
  const random = () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
  const pairs = [...ballot.pairs];
  for (let last = pairs.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    [pairs[last], pairs[other]] = [pairs[other], pairs[last]];
  }
  return pairs;
}

let pairs = [];

function show() {
  const pair = pairs[votes.length];
  at("count").textContent = `${votes.length} of ${pairs.length}`;
  at("bar").value = votes.length;
  at("save").disabled = votes.length === 0;
  at("voting").hidden = !pair;
  at("end").hidden = Boolean(pair);
  at("sound").pause();
  if (!pair) return;
  at("left").firstElementChild.src = pair.left;
  at("right").firstElementChild.src = pair.right;
  at("prompt").textContent = `${pair.prompt} (* is the sound)`;
  at("undo").disabled = votes.length === 0;
  if (at("sound").dataset.key !== pair.sound) {
    at("sound").src = ballot.sounds[pair.sound];
    at("sound").dataset.key = pair.sound;
  }
  at("sound").currentTime = 0;
  at("sound").play().catch(() => {});
  shownAt = performance.now();
}

function vote(choice) {
  const pair = pairs[votes.length];
  if (!pair || at("voting").hidden) return;
  votes.push({ pair: pair.id, choice, seconds: Math.round((performance.now() - shownAt) / 10) / 100 });
  keep();
  show();
}

function undo() {
  if (!votes.length) return;
  votes.pop();
  keep();
  show();
}

function save() {
  const text = JSON.stringify({ ballot: ballot.id, voter, saved_at: new Date().toISOString(), votes }, null, 1);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = `votes-${voter.replace(/[^\p{L}\p{N}_-]+/gu, "_")}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

at("start").addEventListener("submit", (event) => {
  event.preventDefault();
  voter = at("voter").value.trim();
  if (!voter) return;
  pairs = order(voter);
  votes = stored(voter);
  at("start").hidden = true;
  show();
});
for (const side of ["left", "right", "tie"]) at(side).addEventListener("click", () => vote(side));
at("undo").addEventListener("click", undo);
at("save").addEventListener("click", save);

const keys = { ArrowLeft: () => vote("left"), ArrowRight: () => vote("right"), ArrowDown: () => vote("tie"), Backspace: undo };
document.addEventListener("keydown", (event) => {
  if (at("voting").hidden && event.key !== "Backspace") return;
  if (!voter || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === " ") {
    event.preventDefault();
    const sound = at("sound");
    if (sound.paused) sound.play().catch(() => {}); else sound.pause();
  } else if (keys[event.key]) {
    event.preventDefault();
    keys[event.key]();
  }
}, true);
