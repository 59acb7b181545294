/** Does not load. */
export default async function brokenBackend(): Promise<never> {
  throw new Error('the driver is missing');
}
