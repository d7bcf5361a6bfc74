/* A poster shows under the pointer what is where in the film: the frames of a small storyboard, ten to a row. */

const COLUMNS = 10;
const ROWS = 2;
const still = matchMedia("(prefers-reduced-motion: reduce)");

/** Lays the frame at this part of the film (0 to 1) over the picture's box, as object-fit: cover would. */
const showFrame = (box, image, part) => {
  const { clientWidth: wide, clientHeight: high } = box;
  const shape = image.naturalWidth / image.naturalHeight || wide / high;
  const width = Math.max(wide, high * shape);
  const height = width / shape;
  const at = Math.min(COLUMNS * ROWS - 1, Math.max(0, Math.floor(part * COLUMNS * ROWS)));
  const left = (at % COLUMNS) * width + (width - wide) / 2;
  const top = Math.floor(at / COLUMNS) * height + (height - high) / 2;
  box.style.backgroundImage = `url("${image.dataset.storyboard}")`;
  box.style.backgroundSize = `${width * COLUMNS}px ${height * ROWS}px`;
  box.style.backgroundPosition = `${-left}px ${-top}px`;
  box.classList.add("scrubbed");
};

let shown; // the box whose picture is a frame at the moment

const restore = () => {
  shown?.classList.remove("scrubbed");
  shown?.style.removeProperty("background-image");
  shown = undefined;
};

const loaded = new Map(); // by address: whether it is there, so that nothing flickers
const preload = (src) => {
  if (!loaded.has(src)) {
    const image = new Image();
    loaded.set(src, false);
    image.addEventListener("load", () => loaded.set(src, true));
    image.src = src;
  }
  return loaded.get(src);
};

const scrub = (event) => {
  const box = event.target.closest?.(".poster, .gallery a");
  const image = box?.querySelector("img[data-storyboard]");
  if (box !== shown) restore();
  if (!image || still.matches || event.pointerType === "touch") return;
  if (!preload(image.dataset.storyboard)) return;
  const { left, width } = box.getBoundingClientRect();
  shown = box;
  showFrame(box, image, (event.clientX - left) / width);
};

document.addEventListener("pointermove", scrub);
document.documentElement.addEventListener("pointerleave", restore);
