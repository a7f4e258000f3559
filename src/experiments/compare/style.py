"""How the page looks: on a phone, on a screen by day and by night, and on paper."""

CSS = """
:root { --ink: #1b1f24; --soft: #57606a; --line: #d0d7de; --paper: #ffffff; --shade: #f6f8fa; --good: #116329; }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #9da7b1; --line: #3d444d; --paper: #0d1117; --shade: #161b22; --good: #56d364; }
  .curves svg { filter: invert(1) hue-rotate(180deg); }
}
* { box-sizing: border-box; }
html { color-scheme: light dark; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1, h2, p, li, figcaption { overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.15rem; margin: 2.25rem 0 .5rem; }
p, ul { margin: .25rem 0 .75rem; max-width: 50rem; }
.soft, figcaption, caption { color: var(--soft); }
.answer { border-left: .3rem solid var(--good); background: var(--shade); padding: .6rem .9rem; margin: 1rem 0; }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: .4rem; }
table { border-collapse: collapse; width: 100%; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .6rem; text-align: left; vertical-align: top; border-top: 1px solid var(--line); }
thead th { background: var(--shade); border-top: 0; vertical-align: bottom; font-weight: 600; white-space: pre; }
td.n, th.n { text-align: right; }
td.n, td.better { white-space: nowrap; }
td.words { min-width: 13.5rem; }
tr.best td { font-weight: 600; background: var(--shade); }
td.better { color: var(--good); }
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 1rem; }
figure { margin: 0; }
.curves svg { display: block; width: 100%; height: auto; }
.digits { display: grid; grid-template-columns: repeat(auto-fill, minmax(5.5rem, 1fr)); gap: .75rem; }
.digits figure { text-align: center; font-size: .8rem; line-height: 1.3; break-inside: avoid; }
.digits img { width: 4.5rem; height: 4.5rem; image-rendering: pixelated; border-radius: .25rem; }
footer { margin-top: 2.5rem; font-size: .8rem; color: var(--soft); }
@media print {
  @page { margin: 14mm; }
  html { color-scheme: light; font-size: 11px; }
  body { font-size: 1rem; }
  p, ul { max-width: none; }
  main { max-width: none; padding: 0; }
  .wide { overflow: visible; border: 0; }
  th, td { padding: .2rem .35rem; }
  td.n { white-space: normal; }
  tr, .curves figure { break-inside: avoid; }
  h2 { break-after: avoid; }
}
"""
