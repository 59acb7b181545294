import base from '../../tsup.base.ts';

/** An optional dependency stays an import, as the others do by themselves. */
export default { ...base, external: [...base.external, '@huggingface/hub'] };
