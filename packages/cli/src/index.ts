/** The command line as a function. */
export { lowrank } from './lowrank.ts';
