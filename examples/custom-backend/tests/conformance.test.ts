import { describeBackend, describeTiny } from '@lowrank/testkit';
import customBackend from '../src/index.ts';

describeTiny({ name: 'custom', create: customBackend });
describeBackend({ name: 'custom', create: customBackend });
