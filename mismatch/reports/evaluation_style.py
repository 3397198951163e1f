"""How the evaluation's page looks, and the few lines of script behind its slider."""

from __future__ import annotations

__all__ = ["SCRIPT", "STYLE"]

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; --ink: #1d2125; --faint: #5d6873; --grid: #e3e7eb; --card: #ffffff; --page: #f5f6f8;
  --one: #0072b2; --two: #c8500a; --three: #008463; --line: #d6dbe0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --faint: #9aa5b1; --grid: #343b43; --card: #1d2228; --page: #13161a; --one: #58b4f0; --two:
  #ff9655;
  --three: #3fcf9f; --line: #39414a; } .thumb { filter: brightness(.92); } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); }
main { max-width: 76rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; } h2 { font-size: 1.2rem; margin: 2.25rem 0 .75rem; } h3 { font-size: 1rem; margin: 0 0
  .5rem; }
p { margin: .4rem 0; max-width: 65rem; overflow-wrap: anywhere; } .small { font-size: .88rem; color: var(--faint); }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1rem; margin: .75rem 0 0; font-size: .92rem; } a { color: var(--one); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem; margin-top: 1.25rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .9rem 1rem; min-width: 0; }
.tile b { display: block; font-size: 1.55rem; line-height: 1.2; font-variant-numeric: tabular-nums; } .tile span { display: block; font-size: .85rem;
  color: var(--faint); }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr)); gap: .9rem; }
.plot { position: relative; max-width: 36rem; margin: 0 auto; } svg { display: block; width: 100%; height: auto; max-width: 36rem; margin: 0 auto; } svg
  text { font-family: system-ui, sans-serif !important; }
.scroll { overflow-x: auto; } .what { display: block; font-size: .85rem; color: var(--faint); min-width: 6rem; } table { border-collapse: collapse; width:
  100%; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { text-align: left; padding: .35rem .6rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: break-word; }
thead th { font-weight: 600; color: var(--faint); font-size: .85rem; } .n { text-align: right; padding-right: .9rem; white-space: nowrap; overflow-wrap:
  normal; }
td small { color: var(--faint); white-space: nowrap; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: .9rem; align-items: start; }
.matrix td, .matrix th { text-align: right; padding: .6rem; } .matrix .right { background: color-mix(in srgb, var(--one) 16%, transparent); }
.matrix .wrong { background: color-mix(in srgb, var(--two) 18%, transparent); } .matrix b { font-size: 1.2rem; }
input[type=range] { width: 100%; margin: .5rem 0; accent-color: var(--one); height: 1.6rem; } output { font-variant-numeric: tabular-nums; font-weight: 600; }
#marker { position: absolute; width: 2px; background: var(--ink); opacity: .75; pointer-events: none; }
.errors { list-style: none; margin: 0; padding: 0; display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 11rem), 1fr)); gap: .75rem; }
.errors li { overflow-wrap: anywhere; padding: .6rem; } .thumb { display: block; width: 100%; height: 10rem; object-fit: contain; background: #fff;
  border-radius: .35rem; }
.errors .text { font-weight: 600; margin: .5rem 0 .25rem; line-height: 1.3; } dl { display: grid; grid-template-columns: minmax(7rem, max-content)
  minmax(0, 1fr); gap: .3rem 1rem; margin: 0; }
dt { color: var(--faint); } dd { margin: 0; overflow-wrap: anywhere; } code { font-size: .88em; }
@media (max-width: 30rem) { .what { display: none; } .errors { grid-template-columns: 1fr 1fr; } dl { grid-template-columns: 1fr; gap: 0; } dd {
  margin-bottom: .5rem; }
  td small { display: block; } th, td { padding-right: .4rem; } table { font-size: .86rem; } .n { padding-right: .5rem; } .tile b { font-size: 1.3rem; }
  .tiles { grid-template-columns: 1fr 1fr; } }
@media print { :root { --ink: #000; --faint: #444; --grid: #ddd; --card: #fff; --page: #fff; --one: #00558a; --two: #a33f00; --three: #00674d; --line: #bbb;
  color-scheme: light; font-size: 11px; } nav, input[type=range], button { display: none; }
  .card, tr, .errors li { break-inside: avoid; } h2 { break-after: avoid; }
  main { padding: 0; max-width: none; } .plots { grid-template-columns: 1fr 1fr; } .thumb { height: 7rem; filter: none; } }
"""

SCRIPT = """
(() => {
  const table = JSON.parse(document.getElementById("sweep").textContent);
  const slider = document.getElementById("slider"), marker = document.getElementById("marker");
  const share = (part, whole) => whole ? part / whole : NaN;
  const words = value => Number.isNaN(value) ? "–" : (100 * value).toFixed(1) + " %";
  const put = (name, value) => { document.getElementById(name).textContent = value; };
  function show() {
    const at = Number(slider.value), [tn, fp, fn, tp] = ["tn", "fp", "fn", "tp"].map(name => table[name][at]);
    const threshold = table.threshold[at], whole = tn + fp + fn + tp;
    put("at", threshold.toFixed(4));
    slider.setAttribute("aria-valuetext", "threshold " + threshold.toFixed(4));
    put("live-mismatch-precision", words(share(tn, tn + fn)));
    put("live-mismatch-recall", words(share(tn, tn + fp)));
    put("live-mismatch-f1", words(share(2 * tn, 2 * tn + fn + fp)));
    put("live-match-precision", words(share(tp, tp + fp)));
    put("live-match-recall", words(share(tp, tp + fn)));
    put("live-match-f1", words(share(2 * tp, 2 * tp + fp + fn)));
    put("live-accuracy", words(share(tp + tn, whole)));
    put("live-alarm", words(share(tn + fn, whole)));
    put("live-counts", `${tn} mismatches caught, ${fp} missed; ${fn} false alarms`);
    const [low, high] = table.span, {left, right, top, bottom} = table.axes;
    const x = Math.min(1, Math.max(0, (threshold - low) / (high - low)));
    Object.assign(marker.style, {left: 100 * (left + (right - left) * x) + "%", top: 100 * (1 - top) + "%", bottom: 100 * bottom + "%"});
  }
  slider.addEventListener("input", show);
  document.getElementById("reset").addEventListener("click", () => { slider.value = table.chosen; show(); });
  show();
})();
"""
