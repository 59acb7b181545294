/** HTML pages that hold everything they show: no other file, no network. */
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const entities: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** Text as it stands in HTML, in an attribute too. */
export const escaped = (text: string): string => text.replace(/[&<>"']/g, (c) => entities[c]!);

export interface PageContents {
  readonly title: string;
  /** CSS. */
  readonly style: string;
  /** HTML of the body: what varies in it must be `escaped`. */
  readonly body: string;
  /** Whatever `script` draws: it stands as JSON in the element `data`, and cannot end it. */
  readonly data: unknown;
  /** Runs in the page, where uPlot is at hand. */
  readonly script: string;
}

/** One file with style, data, uPlot and the script that draws. */
export async function page({ title, style, body, data, script }: PageContents): Promise<string> {
  const uplot = dirname(fileURLToPath(import.meta.resolve('uplot')));
  const [library, sheet] = await Promise.all([
    readFile(join(uplot, 'uPlot.iife.min.js'), 'utf8'),
    readFile(join(uplot, 'uPlot.min.css'), 'utf8'),
  ]);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(title)}</title>
<style>${sheet}${style}</style>
</head>
<body>
<h1>${escaped(title)}</h1>
${body}
<script type="application/json" id="data">${JSON.stringify(data).replace(/</g, '\\u003c')}</script>
<script>${library}</script>
<script>${script}</script>
</body>
</html>
`;
}
