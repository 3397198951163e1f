// What is said of a pair, drawn: the decision, the score on its scale, the text with its marked words, and what each word does.

import {make} from "./dom.js";

const LEAST_RISE = 0.01;  // of the score, by another word
const WORSE = 1.1;  // times the worst word's effect, from which a phrase is worth a line
const PHRASES_SHOWN = 3;
const SCROLLS = 300;  // characters of a text, from which its place may scroll and the keyboard has to reach it
const SAID = {
  match: "The text probably describes this image.",
  mismatch: "The text probably doesn’t describe this image.",
  review: "Too close to call; a person should look.",
};

/** "0.123", with a real minus; what would be rounded to 0 or 1 says so. */
export function figure(number) {
  if (number > 0 && number < 0.0005) return "< 0.001";
  if (number < 1 && number >= 0.9995) return "> 0.999";
  return number.toFixed(3).replace("-", "−");
}

/** Of a decision: a word in its colour. */
export const badge = prediction => make("span", {class: `badge ${prediction}`}, prediction[0].toUpperCase() + prediction.slice(1));

/** The decision and its scale. `answer` of /v1/predict or /v1/explain; `score` of /v1/model. */
export function verdict(answer, score) {
  const name = score.kind === "cosine" ? "cosine similarity" : "probability of a match";
  const head = make("div", {class: "verdict"},
    make("h3", {id: "verdict"}, badge(answer.prediction)),
    make("p", {class: "score"}, make("b", {}, figure(answer.similarity_score)), make("span", {class: "faint"}, name)));
  return [head, make("p", {}, SAID[answer.prediction]), scale(answer, score)];
}

/** One line for a screen reader. */
export function spoken(answer, score) {
  const name = score.kind === "cosine" ? "Cosine" : "Probability";
  return `${answer.prediction}. ${SAID[answer.prediction]} ${name} ${figure(answer.similarity_score)}, threshold ${figure(answer.threshold)}.`;
}

function scale({similarity_score: value, threshold, prediction}, {kind, review}) {
  const low = kind === "cosine" ? -1 : 0;
  const at = number => `${100 * Math.min(1, Math.max(0, (number - low) / (1 - low)))}%`;
  const band = review && make("i", {class: "band", "--from": at(review.low), "--to": at(review.high)});
  const between = review ? `; to be reviewed from ${figure(review.low)} to ${figure(review.high)}` : "";
  return make("div", {class: `scale ${prediction}`, role: "img", "aria-label": `${figure(value)} on a scale from ${low} to 1; threshold ${figure(threshold)}${between}`},
    make("span", {class: "tick-label", "--at": at(threshold)}, `threshold ${figure(threshold)}`),
    make("div", {class: "track"}, make("i", {"--to": at(threshold)}), band),
    make("span", {class: "tick", "--at": at(threshold)}),
    make("span", {class: "here", "--at": at(value)}),
    make("span", {class: "from"}, low === 0 ? "0" : "−1"),
    review && make("span", {class: "band-label", "--at": at((review.low + review.high) / 2)}, `review ${figure(review.low)} to ${figure(review.high)}`),
    make("span", {class: "until"}, "1"));
}

/** The text and its words, of /v1/explain. */
export function words(found) {
  const parts = [marked(found)];
  if (found.unseen) parts.push(make("p", {class: "note"}, `The model reads only the beginning of so long a text. It has not seen: “${found.unseen}”`));
  parts.push(make("h3", {}, found.named.length ? "Words that don’t fit" : "No word stands out"));
  if (found.named.length) parts.push(make("ul", {class: "named"}, ...found.named.map(word => named(word, found))));
  else parts.push(make("p", {class: "faint"}, found.similarity_score >= found.threshold ? "The model takes the text for fitting." : "No word by itself lowers the score."));
  const phrases = telling(found);
  if (phrases.length) parts.push(make("p", {}, "Together: ", phrases.map(one => `without “${one.text}” ${figure(one.score_without)}`).join("; ")));
  if (found.words.length) parts.push(allWords(found));
  return parts;
}

/** The text, its named words in marks that are read out too. Places are counted in code points. */
function marked({text, named: some, unseen}) {
  const points = [...text];
  const scrolls = points.length > SCROLLS && {role: "group", tabindex: "0", "aria-label": "The text with the words that don’t fit"};
  const block = make("blockquote", {dir: "auto", ...scrolls});
  const end = unseen && text.endsWith(unseen) ? points.length - [...unseen].length : points.length;
  let at = 0;
  for (const word of [...some].sort((a, b) => a.start - b.start)) {
    block.append(points.slice(at, word.start).join(""));
    block.append(make("mark", {title: `Without it the score is ${figure(word.score_without)}`}, points.slice(word.start, word.end).join(""), make("span", {class: "heard"}, " (doesn’t fit)")));
    at = word.end;
  }
  block.append(points.slice(at, Math.max(at, end)).join(""));
  if (end < points.length) block.append(make("span", {class: "unseen"}, make("span", {class: "heard"}, "(not seen by the model:) "), points.slice(Math.max(at, end)).join("")));
  return block;
}

function named(word, found) {
  const swap = found.swaps.find(one => one.start === word.start && one.end === word.end);
  const better = swap?.alternatives.filter(([, score]) => score >= found.similarity_score + LEAST_RISE) ?? [];
  return make("li", {},
    make("span", {}, make("b", {}, word.text), `: without it the score is ${figure(word.score_without)} instead of ${figure(found.similarity_score)}`),
    better.length ? make("span", {class: "swap faint"}, "In its place: ", ...better.map(([other, score]) => make("span", {}, `${word.text} → ${other} ${figure(score)}`))) : null);
}

/** Phrases without which the score rises clearly more than without any of their words. */
function telling({phrases, named: some}) {
  if (!some.length) return [];
  return phrases.filter(one => one.effect > WORSE * some[0].effect).sort((a, b) => b.effect - a.effect).slice(0, PHRASES_SHOWN);
}

function allWords(found) {
  const most = Math.max(...found.words.map(word => Math.abs(word.effect))) || 1;
  const rows = found.words.map(word => {
    const share = word.effect / most / 2;
    const bar = make("i", {class: word.effect > 0 ? "against" : "for", "--from": `${100 * Math.min(0.5, 0.5 + share)}%`, "--wide": `${100 * Math.abs(share)}%`});
    return make("tr", {},
      make("th", {scope: "row"}, word.text),
      make("td", {class: "number"}, figure(word.score_without)),
      make("td", {class: "effect"}, make("div", {class: "bar"}, bar), make("span", {class: "heard"}, word.effect > 0 ? "it lowers the score" : "it raises the score")));
  });
  const head = make("tr", {}, make("th", {scope: "col"}, "Word"), make("th", {scope: "col", class: "number"}, "Score without it"), make("th", {scope: "col"}, "It raises · lowers it"));
  return make("details", {}, make("summary", {}, "What each word does"), make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)));
}
