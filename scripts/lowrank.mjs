#!/usr/bin/env node
/** `npx lowrank ...` inside the repository: the command line on its sources, set up when needed. */
process.argv.splice(2, 0, 'lowrank');
await import('./run.mjs');
