#!/usr/bin/env node
/**
 * One command from a clean clone: sets up what is missing, says so, then does the job.
 * Plain JavaScript for Node >= 20; everything after the set-up runs on the pinned Node in node_modules/.bin.
 *
 *   npm run demo      node scripts/run.mjs demo
 *   npm test          node scripts/run.mjs test
 *   npx lowrank ...   node scripts/run.mjs lowrank ...
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const bin = join(root, 'node_modules/.bin');
const results = join(root, 'test-results');
const { packageManager } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const env = { ...process.env, PATH: `${bin}:${process.env.PATH}`, TURBO_TELEMETRY_DISABLED: '1', DO_NOT_TRACK: '1' };

// The child gets Ctrl-C too and decides; this process waits for it and hands its exit code on.
process.on('SIGINT', () => {});
process.on('SIGTERM', () => {});

const say = (text) => process.stderr.write(`\n▸ ${text}\n`);

/** Runs a command with its output shown; returns its exit code. */
function run(command, args, options = {}) {
  const done = spawnSync(command, args, { cwd: root, env, stdio: 'inherit', ...options });
  if (done.error) throw done.error;
  return done.status ?? 1;
}

/** Runs a command quietly and shows its output only when it fails; then stops. */
function must(command, args, hint) {
  const done = spawnSync(command, args, { cwd: root, env, encoding: 'utf8', maxBuffer: 1 << 28 });
  if (done.status === 0) return done.stdout;
  process.stderr.write(`${done.stdout ?? ''}${done.stderr ?? done.error}\n✗ ${hint}\n`);
  process.exit(1);
}

const pnpm = (args, hint) => must('npx', ['-y', packageManager, ...args], hint);
const node = (args, options) => run(join(bin, 'node'), args, options);

/** Installs dependencies when the lock file or a manifest is not the one that was installed last. */
function install() {
  const stamp = join(root, 'node_modules/.installed');
  const manifests = ['.', 'kernels', 'benchmarks', 'docs', ...children('packages'), ...children('examples')];
  const files = ['pnpm-lock.yaml', 'pnpm-workspace.yaml', ...manifests.map((dir) => join(dir, 'package.json'))];
  const hash = createHash('sha256');
  for (const file of files) if (existsSync(join(root, file))) hash.update(readFileSync(join(root, file)));
  const want = hash.digest('hex');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === want) return;
  say(`Installing dependencies with ${packageManager} (about half a minute the first time, then only after a change)`);
  pnpm(
    ['install', '--frozen-lockfile'],
    `Not installed; the reason is above. \`npx ${packageManager} install\` renews an outdated lock file.`,
  );
  writeFileSync(stamp, want);
}

function children(dir) {
  if (!existsSync(join(root, dir))) return [];
  return readdirSync(join(root, dir)).map((name) => join(dir, name));
}

function setUp() {
  install();
  // Some tenths of a second when nothing changed: not worth a word then.
  if (!existsSync(join(root, 'kernels/generated'))) say('Generating kernel manifest, WebAssembly and WGSL modules');
  pnpm(['run', 'generate', '--output-logs=errors-only'], 'A generator failed: its output is above.');
}

/** Brings the reference models and the Python that some tests compare with, where the shared folder is there. */
function prepareShared() {
  const shared = process.env.LOWRANK_SHARED ?? join(root, '../shared');
  if (!existsSync(join(shared, 'models/get'))) return;
  say('Preparing reference models and the Python reference (a few minutes the first time)');
  for (const args of [['python/get'], ['models/get', '--hf']]) {
    const code = run(join(shared, args[0]), args.slice(1), { stdio: ['ignore', 'ignore', 'inherit'] });
    if (code !== 0) say(`${args[0]} failed (${code}): tests that need it skip, and fail where CI=true`);
  }
}

/** Runs Vitest on the chosen projects; what passed and failed goes to test-results/<name>.json. */
function suites(name, projects) {
  const reporters = ['--reporter=default', `--reporter=${join(root, 'scripts/testing/tally.ts')}`];
  const options = { env: { ...env, LOWRANK_TALLY: join(results, `${name}.json`) } };
  return node([join(root, 'node_modules/vitest/vitest.mjs'), 'run', ...reporters, ...projects], options);
}

/** One closing line a runner, the reasons of what was skipped, and the sum at the very end. Returns the exit code. */
function total(codes) {
  const sum = { passed: 0, failed: 0 };
  const reasons = new Map();
  say('Results');
  for (const [name, code] of Object.entries(codes)) {
    const file = join(results, `${name}.json`);
    const tally = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : { passed: 0, failed: 0, skipped: [] };
    // A runner that failed without naming a test (it crashed, or a file did not load) still counts as a failure.
    if (code !== 0 && tally.failed === 0) tally.failed = 1;
    for (const { reason } of tally.skipped) reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
    console.log(`${name}: ${tally.passed} passed, ${tally.failed} failed, ${tally.skipped.length} skipped`);
    sum.passed += tally.passed;
    sum.failed += tally.failed;
  }
  for (const [reason, count] of reasons) console.log(`skipped ${count}: ${reason}`);
  console.log(`${sum.passed} passed, ${sum.failed} failed`);
  return sum.failed === 0 ? 0 : 1;
}

function check(names) {
  return node(['scripts/check/main.ts', ...names]);
}

function test() {
  rmSync(results, { recursive: true, force: true });
  mkdirSync(results, { recursive: true });
  prepareShared();
  say('Checking types, format, import graph, unused code and packages');
  const codes = { checks: check([]) };
  say('Running all suites on source');
  codes.suites = suites('suites', ['--project=!scripts']);
  if (process.env.REQUIRE_WEBGPU === '1' || existsSync('/usr/bin/chromium')) {
    say('Running the WebGPU suite in headless Chromium');
    codes.chromium = suites('chromium', [
      '--config',
      join(root, 'packages/backend-webgpu/vitest-browser.config.ts'),
      '--root',
      join(root, 'packages/backend-webgpu'),
    ]);
  }
  say("Running the packed packages, the documentation's snippets and the tests of the checks");
  codes.packed = suites('packed', ['--project=scripts']);
  return total(codes);
}

const cli = (args) =>
  node(['--conditions=source', join(root, 'packages/cli/src/main.ts'), ...args], { cwd: process.cwd() });

const jobs = {
  demo: (args) => cli(['demo', ...args]),
  lowrank: cli,
  bench: (args) => node(['--conditions=source', join(root, 'benchmarks/src/main.ts'), ...args], { cwd: process.cwd() }),
  check,
  test,
};

const [job, ...args] = process.argv.slice(2);
if (!job || !Object.hasOwn(jobs, job)) {
  console.error(`run: no job ${job ? `"${job}"` : 'given'}. Jobs: ${Object.keys(jobs).join(', ')}`);
  process.exit(2);
}
setUp();
process.exitCode = jobs[job](args);
