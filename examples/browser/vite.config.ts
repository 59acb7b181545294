import { createHash } from 'node:crypto';
import { createReadStream, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { build, defineConfig, type Plugin } from 'vite';

/** The bundled model and its data, by the names under which the page asks for them. */
const bundled = join(import.meta.dirname, '../../bundled');
const parts: Record<string, string> = Object.fromEntries([
  ...[
    'config.json',
    'generation_config.json',
    'tokenizer.json',
    'tokenizer_config.json',
    'special_tokens_map.json',
    'model.safetensors',
  ].map((name): [string, string] => [name, join(bundled, 'model', name)]),
  ['train.jsonl', join(bundled, 'instructions/train.jsonl')],
]);

/** Serves them in development, and puts them beside the page in a build. */
function bundledModel(): Plugin {
  return {
    name: 'bundled-model',
    configureServer(server) {
      server.middlewares.use((request, response, next) => {
        const name = /^\/bundled\/([\w.-]+)$/.exec(request.url?.split('?')[0] ?? '')?.[1];
        const path = name && parts[name];
        if (path && existsSync(path)) createReadStream(path).pipe(response);
        else next();
      });
    },
    generateBundle() {
      for (const [name, path] of Object.entries(parts))
        this.emitFile({ type: 'asset', fileName: `bundled/${name}`, source: readFileSync(path) });
    },
  };
}

const hub = 'https://huggingface.co https://*.huggingface.co https://*.hf.co';

/** No eval, no foreign origin; WebAssembly is compiled, workers start from blobs (and are bound by the same policy). */
const policy = (connect: string) =>
  [
    "default-src 'none'",
    "script-src 'self' 'wasm-unsafe-eval'",
    "worker-src 'self' blob:",
    "style-src 'self'",
    "img-src 'self' data:",
    `connect-src 'self'${connect}`,
    "base-uri 'none'",
    "form-action 'none'",
  ].join('; ');

/**
 * The page twice, with its policy in it so that any static host will do: `index.html` talks to nobody, `hub.html` may also download from
 * the hub. And the service worker, which knows the names of all files.
 */
function pages(): Plugin {
  return {
    name: 'pages',
    apply: 'build',
    enforce: 'post',
    async generateBundle(_, bundle) {
      const page = bundle['index.html'];
      if (page?.type !== 'asset') throw new Error('the build has no index.html');
      const html = String(page.source);
      const withPolicy = (connect: string, hubState: string) =>
        html
          .replace('<html lang="en">', `<html lang="en" data-hub="${hubState}">`)
          .replace(
            '<meta charset="utf-8">',
            `<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="${policy(connect)}">`,
          );
      page.source = withPolicy('', 'closed');
      this.emitFile({ type: 'asset', fileName: 'hub.html', source: withPolicy(` ${hub}`, 'open') });
      const files = Object.keys(bundle).filter((name) => !name.startsWith('bundled/') && !name.endsWith('.map'));
      const hash = createHash('sha256');
      for (const name of files) {
        const file = bundle[name]!;
        hash.update(name).update(file.type === 'chunk' ? file.code : file.source);
      }
      const define = {
        __FILES__: JSON.stringify([...files, 'hub.html']),
        __VERSION__: JSON.stringify(hash.digest('hex').slice(0, 12)),
      };
      this.emitFile({ type: 'asset', fileName: 'sw.js', source: await serviceWorker(define) });
    },
  };
}

async function serviceWorker(define: Record<string, string>): Promise<string> {
  const result = await build({
    configFile: false,
    logLevel: 'silent',
    define,
    build: {
      write: false,
      lib: { entry: join(import.meta.dirname, 'src/sw.ts'), formats: ['es'], fileName: 'sw' },
    },
  });
  const [output] = [result].flat();
  const chunk = output && 'output' in output ? output.output[0] : undefined;
  if (!chunk) throw new Error('the service worker did not build');
  return chunk.code;
}

/** Memory can be shared between threads only in pages that are isolated from other origins. */
const headers = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
  'Cross-Origin-Resource-Policy': 'same-origin',
};

const conditions = ['source', 'module', 'browser', 'development|production'];

export default defineConfig({
  base: './',
  plugins: [bundledModel(), pages()],
  resolve: { conditions },
  server: { headers },
  preview: { headers },
  worker: { format: 'es' },
  build: { target: 'es2022', assetsInlineLimit: 0, reportCompressedSize: false, modulePreload: { polyfill: false } },
});
