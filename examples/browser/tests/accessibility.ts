import axe from 'axe-core/axe.min.js?raw';
import type { Page } from 'playwright-core';
import { expect } from 'vitest';

interface Violation {
  readonly id: string;
  readonly nodes: readonly { readonly target: readonly string[]; readonly failureSummary: string }[];
}

/** Holds the page, as it is now, against WCAG 2.1 A and AA. `state` is what a failure calls it. */
export async function accessibility(page: Page, state: string): Promise<void> {
  await page.evaluate(axe);
  const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa'];
  const call = `axe.run({ runOnly: ${JSON.stringify(tags)} })`;
  const { violations } = (await page.evaluate(call)) as { violations: Violation[] };
  const found = violations.map(
    ({ id, nodes }) => `${id}: ${nodes.map((n) => `${n.target}: ${n.failureSummary}`).join(' | ')}`,
  );
  expect(found, state).toEqual([]);
}
