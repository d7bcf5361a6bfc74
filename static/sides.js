/* A source and a result side by side under one playhead. Without it each has its own controls, and what a
   check found is a link to its second. */

const APART = 0.2; // seconds that the source may be away from the result while both play; a seek takes a while

/** Seconds as people write them. */
const timecode = (seconds) => {
  const whole = Math.floor(seconds);
  const rest = String(whole % 60).padStart(2, "0");
  const minutes = Math.floor(whole / 60);
  return minutes < 60
    ? `${minutes}:${rest}`
    : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
};

/** Puts both under one playhead; the result leads. */
const join = (sides) => {
  const [source, result] = sides.querySelectorAll("video");
  const head = sides.querySelector(".playhead");
  const [play, range, place] = head.querySelectorAll("button, input[type=range], output");
  const label = play.querySelector("span");

  const show = () => {
    range.value = result.currentTime;
    place.textContent = timecode(result.currentTime);
  };
  const go = (seconds) => {
    result.currentTime = seconds;
    source.currentTime = seconds;
    show();
  };
  const start = () => {
    source.currentTime = result.currentTime;
    for (const side of [source, result]) side.play().catch(() => {});
  };
  const stop = () => {
    for (const side of [source, result]) side.pause();
    source.currentTime = result.currentTime;
  };
  const measure = () => {
    if (Number.isFinite(result.duration)) range.max = result.duration;
  };

  for (const side of [source, result]) side.controls = false;
  head.hidden = false;
  measure();
  play.addEventListener("click", () => (result.paused ? start() : stop()));
  range.addEventListener("input", () => go(Number(range.value)));
  head.querySelector("[data-side-sound]").addEventListener("change", (event) => {
    source.muted = !event.target.checked;
    result.muted = event.target.checked;
  });
  result.addEventListener("loadedmetadata", measure);
  result.addEventListener("ended", stop);
  result.addEventListener("timeupdate", () => {
    if (!result.paused && Math.abs(source.currentTime - result.currentTime) > APART) {
      source.currentTime = result.currentTime;
    }
    show();
  });
  for (const name of ["play", "pause"]) {
    result.addEventListener(name, () => {
      label.textContent = result.paused ? "Play both" : "Pause both";
    });
  }
  return go;
};

const joined = new WeakMap(); // by element: how both are moved
const sidesOf = (page) => {
  const sides = page.getElementById("sides");
  if (sides && !joined.has(sides)) joined.set(sides, join(sides));
  return sides;
};

/** Shows both sides where something was found, of the output that it was found in. */
const look = (event) => {
  const link = event.target.closest("a[data-look]");
  const sides = link && sidesOf(document);
  if (!sides || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const result = document.getElementById("side-result");
  const [file] = link.href.split("#");
  const seconds = Number(link.dataset.look);
  const go = joined.get(sides);
  if (result.src === file) {
    go(seconds);
  } else {
    result.pause();
    result.src = file;
    result.addEventListener("loadedmetadata", () => go(seconds), { once: true });
  }
  sides.scrollIntoView({ block: "nearest" });
};

document.addEventListener("click", look);
for (const name of ["htmx:after:swap", "visit"]) document.addEventListener(name, () => sidesOf(document));
sidesOf(document);
