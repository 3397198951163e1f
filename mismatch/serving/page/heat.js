// The heat map over the square that the model sees: blue speaks for the text, vermilion against it.

const FOR = [33, 102, 172], AGAINST = [202, 62, 20];  // which colour-blind people tell apart
const STRENGTH = 0.75;  // of the strongest place's colour
const SIDE = 448;  // pixels
const NAMES = [["top left", "top", "top right"], ["left", "centre", "right"], ["bottom left", "bottom", "bottom right"]];

/** Draw; `heat`: rows of numbers from the top. Gives the largest of them, without its sign. */
export async function drawHeat(canvas, picture, heat) {
  const values = heat.flat(), side = Math.round(Math.sqrt(values.length));
  const largest = Math.max(...values.map(Math.abs)), most = largest || 1;
  const image = new Image();
  image.src = `data:image/png;base64,${picture}`;
  await image.decode();
  canvas.width = canvas.height = SIDE;
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.filter = "grayscale(1)";
  pen.drawImage(image, 0, 0, SIDE, SIDE);
  pen.filter = "none";
  pen.drawImage(layer(values, side, most), 0, 0, SIDE, SIDE);
  canvas.setAttribute("aria-label", inWords(values, side, most));
  return largest;
}

/** A canvas with a pixel for each value. */
function layer(values, side, most) {
  const small = document.createElement("canvas");
  small.width = small.height = side;
  const pen = small.getContext("2d"), pixels = pen.createImageData(side, side);
  values.forEach((value, number) => pixels.data.set([...(value > 0 ? FOR : AGAINST), Math.round(255 * STRENGTH * Math.abs(value) / most)], 4 * number));
  pen.putImageData(pixels, 0, 0);
  return small;
}

/** Which ninth of the picture speaks most for the text, and which most against it. */
function inWords(values, side, most) {
  const sums = NAMES.flat().map(name => ({name, sum: 0}));
  values.forEach((value, number) => {
    const row = Math.floor(Math.floor(number / side) * 3 / side), column = Math.floor((number % side) * 3 / side);
    sums[3 * row + column].sum += value;
  });
  sums.sort((a, b) => b.sum - a.sum);
  const least = most * values.length / 9 / 10;
  const parts = [];
  if (sums[0].sum > least) parts.push(`most evidence for the text at the ${sums[0].name}`);
  if (sums.at(-1).sum < -least) parts.push(`most evidence against it at the ${sums.at(-1).name}`);
  return `Heat map: ${parts.join(", ") || "no part of the picture stands out"}`;
}
