import { playwright } from '@vitest/browser-playwright';
import { mergeConfig } from 'vitest/config';
import base from '../../vitest.base.ts';

/**
 * The conformance suite in a browser: headless Chromium with SwiftShader, which needs no GPU. `CHROMIUM` names the executable. One of the
 * switches is for speed alone: with it SwiftShader compiles our kernels four times faster.
 */
const args = [
  '--enable-unsafe-webgpu',
  '--use-webgpu-adapter=swiftshader',
  '--disable-dawn-features=use_vulkan_zero_initialize_workgroup_memory_extension',
  '--no-sandbox',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

export default mergeConfig(
  { ...base, test: { ...base.test, include: ['tests/browser/**/*.test.ts'] } },
  {
    test: {
      name: 'backend-webgpu in Chromium',
      testTimeout: 300_000,
      browser: {
        enabled: true,
        headless: true,
        screenshotFailures: false,
        provider: playwright({ launchOptions: { executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args } }),
        instances: [{ browser: 'chromium' }],
      },
    },
  },
);
